package finermoe;

/** Kinds of devices. */
public enum DeviceKind {
  /** The processor. */
  CPU(Native.DEVICE_CPU),
  /** A graphics processor. */
  GPU(Native.DEVICE_GPU),
  /** Another one. */
  OTHER(Native.DEVICE_OTHER),
  /** A number that this version does not know. */
  UNKNOWN(Integer.MIN_VALUE);

  final int value;

  DeviceKind(int value) {
    this.value = value;
  }

  static DeviceKind of(int value) {
    for (DeviceKind one : values()) {
      if (one.value == value) return one;
    }
    return UNKNOWN;
  }
}
