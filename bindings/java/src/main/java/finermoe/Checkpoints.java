package finermoe;

import java.nio.file.Path;
import java.util.List;

/**
 * Makes and checks models on disk.
 *
 * <p>A writer asks for the room it needs before it writes, and its output appears when it is whole. The output is a
 * folder, or a single file if its name ends in ".safetensors". Equal inputs and seed give equal bytes.
 */
public final class Checkpoints {
  private Checkpoints() {}

  /**
   * Makes a Mixture-of-Experts checkpoint from a dense one.
   *
   * @param dense         a dense model
   * @param out           where the new one goes
   * @param options       null: the preset "finermoe"
   * @param writerOptions null: the defaults
   */
  public static void upcycle(Path dense, Path out, UpcycleOptions options, WriterOptions writerOptions) {
    Native.upcycleRun(dense, out, options, writerOptions);
  }

  /**
   * Writes a quantised copy of a model.
   *
   * @param model         a model
   * @param out           where the new one goes
   * @param options       null: Q8
   * @param writerOptions null: the defaults
   */
  public static void quantize(Path model, Path out, QuantizeOptions options, WriterOptions writerOptions) {
    Native.quantizeRun(model, out, options, writerOptions);
  }

  /**
   * Writes a random checkpoint of any shape, for tests and benchmarks at real size.
   *
   * @param config        a config.json or a folder that holds one
   * @param out           where the model goes
   * @param dtype         null: the configuration's own
   * @param writerOptions null: the defaults
   */
  public static void synthesize(Path config, Path out, DType dtype, WriterOptions writerOptions) {
    Native.synthesizeRun(config, out, dtype == null ? -1 : dtype.value, writerOptions);
  }

  /**
   * Checks every file of a model; {@link Verification#run} with progress and a cancel.
   *
   * @param model a model
   * @return one for each file
   */
  public static List<VerifiedFile> verify(Path model) {
    try (Verification verification = Verification.run(model, null, null)) {
      return verification.files();
    }
  }
}
