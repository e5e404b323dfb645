import finermoe.Event;
import finermoe.FinermoeException;
import finermoe.Generation;
import finermoe.GenerationOptions;
import finermoe.Model;
import finermoe.Session;
import java.nio.file.Path;

/** Goes on with a text, word by word. */
public class Generate {
  private Generate() {}

  /** Generate MODEL PROMPT [TOKENS]. */
  public static void main(String[] arguments) {
    if (arguments.length < 2 || arguments.length > 3) {
      System.out.println("usage: Generate MODEL PROMPT [TOKENS]");
      System.exit(arguments.length == 1 && arguments[0].equals("--help") ? 0 : 2);
    }
    try (Model model = Model.open(Path.of(arguments[0])); Session session = model.session()) {
      final GenerationOptions options = GenerationOptions.of(model);
      if (arguments.length == 3) options.maxTokens(Long.parseLong(arguments[2]));
      System.out.print(arguments[1]);
      try (Generation generation = session.generate(arguments[1], options)) {
        for (Event event : generation) {
          System.out.print(event.text());
          System.out.flush();
        }
        System.out.println();
        System.err.println(generation.info().nGenerated() + " tokens, ended by " + generation.info().finishReason());
      }
    } catch (FinermoeException error) {
      System.err.println(error.code() + ": " + error.getMessage());
      System.exit(1);
    }
  }
}
