import finermoe.Batch;
import finermoe.FinermoeException;
import finermoe.FinishReason;
import finermoe.GenerationOptions;
import finermoe.Model;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/** Goes on with every line of a file, all of them in one pass over the weights for each token. */
public class BatchFile {
  private BatchFile() {}

  /** BatchFile MODEL FILE [TOKENS]. */
  public static void main(String[] arguments) throws IOException {
    if (arguments.length < 2 || arguments.length > 3) {
      System.out.println("usage: BatchFile MODEL FILE [TOKENS]");
      System.exit(arguments.length == 1 && arguments[0].equals("--help") ? 0 : 2);
    }
    final List<String> prompts = Files.readAllLines(Path.of(arguments[1]));
    final List<StringBuilder> texts = prompts.stream().map(StringBuilder::new).toList();
    try (Model model = Model.open(Path.of(arguments[0])); Batch batch = model.batch()) {
      final GenerationOptions options = GenerationOptions.of(model);
      if (arguments.length == 3) options.maxTokens(Long.parseLong(arguments[2]));
      for (int i = 0; i < prompts.size(); i++) batch.add(prompts.get(i), i, options);
      for (Batch.Item item : batch) {
        final StringBuilder text = texts.get((int) item.tag()).append(item.event().text());
        if (item.error() != null) text.append(" [").append(item.error().getMessage()).append(']');
        if (item.event().finishReason() != FinishReason.NONE) System.out.println(text);
      }
    } catch (FinermoeException error) {
      System.err.println(error.code() + ": " + error.getMessage());
      System.exit(1);
    }
  }
}
