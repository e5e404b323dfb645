package finermoe;

/** Weights that stay in memory while the model lives. */
public enum Lock {
  /** None: the system may drop any. */
  NONE(Native.LOCK_NONE),
  /** What every token reads: not the routed experts, nor an untied embedding. */
  EVERY_TOKEN(Native.LOCK_EVERY_TOKEN),
  /** All of them. */
  ALL(Native.LOCK_ALL);

  final int value;

  Lock(int value) {
    this.value = value;
  }
}
