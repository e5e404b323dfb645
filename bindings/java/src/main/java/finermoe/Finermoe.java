package finermoe;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** The library, and what it finds on this machine. */
public final class Finermoe {
  private Finermoe() {}

  /**
   * The library's version.
   *
   * @return "MAJOR.MINOR.PATCH"
   */
  public static String version() {
    return Native.version();
  }

  /**
   * The version of the library's binary interface.
   *
   * @return the number in the shared library's name
   */
  public static int abiVersion() {
    return Native.abiVersion();
  }

  /**
   * What the library finds on this machine, and how it was built.
   *
   * @return the present state
   */
  public static SystemInfo system() {
    try (NativeSystemInfo info = new NativeSystemInfo()) {
      Native.systemGetInfo(info);
      return SystemInfo.of(info);
    }
  }

  /**
   * Devices of this machine, those of libfinermoe_cuda too, where it is installed; opens none of them.
   *
   * @return the first is the CPU
   */
  public static List<DeviceInfo> devices() {
    return devices(null);
  }

  /**
   * Devices of this machine, those of a device module too; opens none of them.
   *
   * @param module a shared library built with this version; it stays loaded; null: libfinermoe_cuda, where it is
   *     installed
   * @return the first is the CPU
   */
  public static List<DeviceInfo> devices(Path module) {
    final long[] count = {0};
    Native.deviceCount(module, count);
    final List<DeviceInfo> devices = new ArrayList<>();
    try (NativeDeviceInfo info = new NativeDeviceInfo()) {
      for (long i = 0; i < count[0]; i++) {
        Native.deviceGetInfo(module, i, info);
        devices.add(DeviceInfo.of(info));
      }
    }
    return devices;
  }
}
