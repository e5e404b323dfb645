package finermoe;

/**
 * What a verification found in one file. Bad values are a finding, not an error.
 *
 * @param name of the file
 * @param sha256 64 hexadecimal digits
 * @param firstBad the first tensor that holds a NaN or infinity, or ""
 * @param size bytes
 * @param nTensors 0 for files that hold none
 * @param nNan parameters, as the next
 * @param nInfinite number of infinite
 */
public record VerifiedFile(
    String name,
    String sha256,
    String firstBad,
    long size,
    long nTensors,
    long nNan,
    long nInfinite) {

  static VerifiedFile of(NativeVerificationFile info) {
    return new VerifiedFile(
        info.getName(),
        info.getSha256(),
        info.getFirstBad(),
        info.getSize(),
        info.getNTensors(),
        info.getNNan(),
        info.getNInfinite());
  }
}
