import finermoe.FinermoeException;
import finermoe.Model;
import finermoe.Session;
import finermoe.Tokenizer;
import finermoe.Trace;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Locale;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

/** Which experts the router chose for each token of a text, layer by layer. */
public class Routes {
  private Routes() {}

  /** Routes MODEL TEXT. */
  public static void main(String[] arguments) {
    if (arguments.length != 2) {
      System.out.println("usage: Routes MODEL TEXT");
      System.exit(arguments.length == 1 && arguments[0].equals("--help") ? 0 : 2);
    }
    try (Model model = Model.open(Path.of(arguments[0])); Session session = model.session();
         Trace trace = session.trace()) {
      final Tokenizer tokenizer = model.tokenizer();
      final int[] ids = tokenizer.encode(arguments[1]);
      session.append(ids);
      final long[] layers = trace.layers();
      System.out.printf("%-14s", "token");
      for (long layer : layers) System.out.printf(" %-22s", "layer " + layer);
      System.out.println();
      for (int i = 0; i < ids.length; i++) {
        System.out.printf("%-14s", '"' + tokenizer.decode(new int[] {ids[i]}) + '"');
        for (int layer = 0; layer < layers.length; layer++) System.out.printf(" %-22s", experts(trace, layer, i));
        System.out.println();
      }
      System.out.printf("%-14s", "balance loss");
      for (int layer = 0; layer < layers.length; layer++) {
        System.out.printf(" %-22s", String.format(Locale.ROOT, "%.3f", trace.balanceLoss(layer)));
      }
      System.out.println();
      System.out.printf("%-14s", "experts used");
      for (int layer = 0; layer < layers.length; layer++) {
        final long[] usage = trace.usage(layer);
        System.out.printf(" %-22s", Arrays.stream(usage).filter(n -> n > 0).count() + " of " + usage.length);
      }
      System.out.println();
    } catch (FinermoeException error) {
      System.err.println(error.code() + ": " + error.getMessage());
      System.exit(1);
    }
  }

  /** Each chosen expert with its weight. */
  private static String experts(Trace trace, int layer, int token) {
    final int[] experts = trace.experts(layer)[token];
    final float[] weights = trace.weights(layer)[token];
    return IntStream.range(0, experts.length)
        .mapToObj(k -> String.format(Locale.ROOT, "%d (%.2f)", experts[k], weights[k]))
        .collect(Collectors.joining(", "));
  }
}
