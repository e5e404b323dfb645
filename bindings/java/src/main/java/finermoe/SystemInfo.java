package finermoe;

/**
 * What the library finds on this machine, and how it was built: what a bug report needs.
 *
 * @param isa the instruction set that {@link Isa#AUTO} takes
 * @param kernels its kernels: "portable", "avx2", "avx2-vnni", "avx512" or "amx"
 * @param compiler "GCC 12.2.0", "Clang 14.0.6"
 * @param build the type of the build: "release", "debug", "release, address sanitizer"
 * @param isas those that the processor can execute: bits 1 &lt;&lt; number of {@link Isa}
 * @param nThreads threads of a runtime that is not told otherwise
 * @param processorQuota processors that the control groups of this process grant; 0: no limit
 * @param memoryQuota bytes that they grant; 0: no limit
 * @param memoryAvailable bytes that this process could use at this moment, that limit included
 */
public record SystemInfo(
    Isa isa,
    String kernels,
    String compiler,
    String build,
    int isas,
    int nThreads,
    double processorQuota,
    long memoryQuota,
    long memoryAvailable) {

  static SystemInfo of(NativeSystemInfo info) {
    return new SystemInfo(
        Isa.of(info.getIsa()),
        info.getKernels(),
        info.getCompiler(),
        info.getBuild(),
        info.getIsas(),
        info.getNThreads(),
        info.getProcessorQuota(),
        info.getMemoryQuota(),
        info.getMemoryAvailable());
  }
}
