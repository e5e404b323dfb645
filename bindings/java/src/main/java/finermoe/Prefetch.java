package finermoe;

/** Reading chosen experts from the disk while the shared expert computes. */
public enum Prefetch {
  /** With an expert budget, and where the mapped files are larger than the memory available. */
  AUTO(Native.PREFETCH_AUTO),
  /** Never. */
  OFF(Native.PREFETCH_OFF),
  /** Always. */
  ON(Native.PREFETCH_ON);

  final int value;

  Prefetch(int value) {
    this.value = value;
  }
}
