import finermoe.Batch;
import finermoe.Chat;
import finermoe.Event;
import finermoe.FinermoeException;
import finermoe.GenerationOptions;
import finermoe.Logits;
import finermoe.Message;
import finermoe.Model;
import finermoe.ModelOptions;
import finermoe.Session;
import finermoe.SessionOptions;
import java.nio.file.Path;
import java.util.stream.Collectors;

/** A bit of everything. */
public class Tour {
  private Tour() {}

  /** Tour MODEL. */
  public static void main(String[] arguments) {
    if (arguments.length != 1 || arguments[0].startsWith("-")) {
      System.out.println("usage: Tour MODEL");
      System.exit(arguments.length == 1 && arguments[0].equals("--help") ? 0 : 2);
    }
    try (Model model = Model.open(Path.of(arguments[0]), ModelOptions.create().threads(2));
         Session session = model.session(SessionOptions.create().contextLength(512))) {
      final GenerationOptions options = GenerationOptions.of(model).maxTokens(20).temperature(0.8).seed(7);
      for (Event event : session.generate("A ship", options)) {
        System.out.print(event.text());
      }
      System.out.println();

      final String answer = session.chat(Chat.of(Message.user("Define the noun \"compass\".")))
          .stream().map(Event::text).collect(Collectors.joining());
      System.out.println(answer);

      final float[][] logits = session.append(model.tokenizer().encode("A ship"), Logits.ALL);
      System.out.println(logits.length + " rows of " + logits[0].length + " logits");

      try (Batch batch = model.batch()) {
        batch.add("A ship", 0, GenerationOptions.of(model).maxTokens(20));
        batch.add("A poem", 1, GenerationOptions.of(model).maxTokens(20));
        for (Batch.Item item : batch) {
          System.out.println(item.tag() + item.event().text());
        }
      }
    } catch (FinermoeException error) { // unchecked; error.code() is an enum ErrorCode
      System.err.println(error.code() + ": " + error.getMessage());
      System.exit(1);
    }
  }
}
