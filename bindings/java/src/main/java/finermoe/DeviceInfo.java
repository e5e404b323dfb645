package finermoe;

/**
 * A device that models can compute on.
 *
 * @param kind what it is
 * @param name by which it is chosen: "cpu", …
 * @param description of the hardware
 * @param version of what computes on it: the CPU's kernels, a driver
 * @param memory bytes that it has; of the CPU: what this process may use
 * @param memoryAvailable of these, free at this moment
 * @param weightDtypes types of weights that it computes with: bits 1 &lt;&lt; number of {@link DType}
 * @param kvDtypes types of KV caches
 * @param copiesWeights whether weights are copied into memory of its own when a model is opened
 */
public record DeviceInfo(
    DeviceKind kind,
    String name,
    String description,
    String version,
    long memory,
    long memoryAvailable,
    int weightDtypes,
    int kvDtypes,
    boolean copiesWeights) {

  static DeviceInfo of(NativeDeviceInfo info) {
    return new DeviceInfo(
        DeviceKind.of(info.getKind()),
        info.getName(),
        info.getDescription(),
        info.getVersion(),
        info.getMemory(),
        info.getMemoryAvailable(),
        info.getWeightDtypes(),
        info.getKvDtypes(),
        info.getCopiesWeights() != 0);
  }
}
