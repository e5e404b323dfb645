import finermoe.Event;
import finermoe.Generation;
import finermoe.GenerationOptions;
import finermoe.Logits;
import finermoe.Model;
import finermoe.ModelOptions;
import finermoe.Session;
import java.nio.file.Path;
import java.util.Arrays;

/** What a token and a row of logits cost: Bench MODEL N_TOKENS REPEATS. */
public class Bench {
  private static final int N_ROWS = 1000;

  private Bench() {}

  public static void main(String[] arguments) {
    if (arguments.length != 3) {
      System.err.println("usage: Bench MODEL N_TOKENS REPEATS");
      System.exit(2);
    }
    final int nTokens = Integer.parseInt(arguments[1]);
    final int nRepeats = Integer.parseInt(arguments[2]);
    final double[] perToken = new double[nRepeats];
    final double[] perRow = new double[nRepeats];
    try (Model model = Model.open(Path.of(arguments[0]), ModelOptions.create().threads(1))) {
      final GenerationOptions options = GenerationOptions.of(model).ignoreEos(true).maxTokens(nTokens);
      for (int i = 0; i < nRepeats; i++) {
        perToken[i] = secondsPerToken(model, options, nTokens);
        perRow[i] = secondsPerRow(model);
      }
    }
    System.out.println("{\"seconds_per_token\": " + Arrays.toString(perToken)
        + ", \"seconds_per_logits_row\": " + Arrays.toString(perRow) + "}");
  }

  private static double secondsPerToken(Model model, GenerationOptions options, int nTokens) {
    try (Session session = model.session(); Generation generation = session.generate("A lighthouse is", options)) {
      int nEvents = 0;
      final long begin = System.nanoTime();
      for (Event event : generation) {
        if (event.token() >= 0) nEvents++;
      }
      final long end = System.nanoTime();
      if (nEvents != nTokens) throw new IllegalStateException(nEvents + " tokens");
      return (end - begin) * 1e-9 / nTokens;
    }
  }

  private static double secondsPerRow(Model model) {
    try (Session session = model.session()) {
      session.appendRows(model.tokenizer().encode("A lighthouse is"), Logits.LAST, null);
      float sum = 0;
      final long begin = System.nanoTime();
      for (int i = 0; i < N_ROWS; i++) sum += session.logits(0)[0];
      final long end = System.nanoTime();
      if (Float.isNaN(sum)) throw new IllegalStateException("not a number");
      return (end - begin) * 1e-9 / N_ROWS;
    }
  }
}
