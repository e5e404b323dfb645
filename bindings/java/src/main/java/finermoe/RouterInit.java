package finermoe;

/** How the routers of an upcycled model begin. */
public enum RouterInit {
  /** With random weights. */
  NORMAL(Native.ROUTER_INIT_NORMAL),
  /** With the same weights in each virtual group. */
  VIRTUAL_GROUP(Native.ROUTER_INIT_VIRTUAL_GROUP);

  final int value;

  RouterInit(int value) {
    this.value = value;
  }
}
