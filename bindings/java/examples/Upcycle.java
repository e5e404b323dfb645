import finermoe.Checkpoints;
import finermoe.FinermoeException;
import finermoe.UpcycleOptions;
import finermoe.WriterOptions;
import java.nio.file.Path;

/** Makes a Mixture-of-Experts model from a dense one, with a progress bar. */
public class Upcycle {
  private static final int WIDTH = 40;

  private Upcycle() {}

  /** Upcycle DENSE OUT [PRESET]. */
  public static void main(String[] arguments) {
    if (arguments.length < 2 || arguments.length > 3) {
      System.out.println("usage: Upcycle DENSE OUT [PRESET]");
      System.exit(arguments.length == 1 && arguments[0].equals("--help") ? 0 : 2);
    }
    try {
      final UpcycleOptions options = UpcycleOptions.preset(arguments.length == 3 ? arguments[2] : null);
      Checkpoints.upcycle(Path.of(arguments[0]), Path.of(arguments[1]), options,
          WriterOptions.create().progress(Upcycle::show));
      System.err.println();
    } catch (FinermoeException error) {
      System.err.println(error.code() + ": " + error.getMessage());
      System.exit(1);
    }
  }

  private static boolean show(String phase, long done, long total) {
    final int filled = total == 0 ? WIDTH : (int) (done * WIDTH / total);
    final String bar = "#".repeat(filled) + " ".repeat(WIDTH - filled);
    System.err.printf("\r%-10s [%s] %3d%%", phase, bar, 100 * filled / WIDTH);
    return true; // false would cancel, and leave nothing behind
  }
}
