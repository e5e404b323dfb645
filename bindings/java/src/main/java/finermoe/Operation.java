package finermoe;

/**
 * One operation's part of the steps that were computed since the runtime was made or the profile was reset.
 *
 * @param name "qkv", "attention", "moe_ffn", …
 * @param nCalls how often it was computed
 * @param seconds time that it took
 * @param bytes of weights or cache that the calls had to read, each once in a call
 * @param macs multiplications with an addition, of matrix products; 2 operations each
 */
public record Operation(
    String name,
    long nCalls,
    double seconds,
    long bytes,
    long macs) {

  static Operation of(NativeRuntimeOperation info) {
    return new Operation(
        info.getName(),
        info.getNCalls(),
        info.getSeconds(),
        info.getBytes(),
        info.getMacs());
  }
}
