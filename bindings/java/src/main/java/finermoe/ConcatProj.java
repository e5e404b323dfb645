package finermoe;

/** How the concat projections of an upcycled model begin. */
public enum ConcatProj {
  /** There are none. */
  NONE(Native.CONCAT_PROJ_NONE),
  /** With random weights. */
  NORMAL(Native.CONCAT_PROJ_NORMAL),
  /** With zeros. */
  ZERO(Native.CONCAT_PROJ_ZERO);

  final int value;

  ConcatProj(int value) {
    this.value = value;
  }
}
