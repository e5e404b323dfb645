/**
 * FineRMoE language models in this process.
 *
 * <p>A program goes from {@link finermoe.Model#open(java.nio.file.Path)} to {@link finermoe.Model#session()} to {@link
 * finermoe.Session#generate(String)} to its {@link finermoe.Event}s. What has a native side is {@link
 * java.lang.AutoCloseable}: anything may be closed in any order and twice, what nobody closes is freed when it is
 * collected, and what is closed answers {@link java.lang.IllegalStateException}. A call of the library that fails
 * throws a {@link finermoe.FinermoeException}; nothing else happens then, and every object stays usable. Texts, arrays
 * and options that go in are copied; sizes are counted in tokens or bytes as they say.
 *
 * <p>The library's manual is its header, finermoe.h, whose functions all have a counterpart here.
 */
package finermoe;
