package finermoe;

/** Which rows of logits an append keeps. */
public enum Logits {
  /** None. */
  NONE(Native.LOGITS_NONE),
  /** The last token's. */
  LAST(Native.LOGITS_LAST),
  /** Every token's. */
  ALL(Native.LOGITS_ALL);

  final int value;

  Logits(int value) {
    this.value = value;
  }
}
