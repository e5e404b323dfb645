package finermoe;

/** What is kept of the rows that an append names. */
public enum Hidden {
  /** Their logits. */
  NONE(Native.HIDDEN_NONE),
  /** Their logits and hidden states. */
  KEEP(Native.HIDDEN_KEEP),
  /** Their hidden states; no logits are computed. */
  ONLY(Native.HIDDEN_ONLY);

  final int value;

  Hidden(int value) {
    this.value = value;
  }
}
