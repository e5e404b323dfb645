package finermoe;

/**
 * What a runtime computes on, and the memory that it counts.
 *
 * @param nThreads threads that compute
 * @param isa the instruction set in use
 * @param memoryLimit bytes; 0: none
 * @param memoryUsed bytes now counted against it
 * @param memoryPeak the most that was ever counted
 * @param device the device's name
 * @param usesBlas whether a BLAS library computes products here
 * @param blas what the library says of itself; empty if none was opened
 */
public record RuntimeInfo(
    int nThreads,
    Isa isa,
    long memoryLimit,
    long memoryUsed,
    long memoryPeak,
    String device,
    boolean usesBlas,
    String blas) {

  static RuntimeInfo of(NativeRuntimeInfo info) {
    return new RuntimeInfo(
        info.getNThreads(),
        Isa.of(info.getIsa()),
        info.getMemoryLimit(),
        info.getMemoryUsed(),
        info.getMemoryPeak(),
        info.getDevice(),
        info.getUsesBlas() != 0,
        info.getBlas());
  }
}
