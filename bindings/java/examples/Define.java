import finermoe.*;
import java.nio.file.Path;

/** What a word means, as the answer comes. */
public class Define {
  private Define() {}

  /** Define MODEL WORD. */
  public static void main(String[] arguments) {
    if (arguments.length != 2) {
      System.out.println("usage: Define MODEL WORD");
      System.exit(arguments.length == 1 && arguments[0].equals("--help") ? 0 : 2);
    }
    final Path path = Path.of(arguments[0]);
    final String question = "Define the noun \"" + arguments[1] + "\".";

    try (Model model = Model.open(path); Session session = model.session()) {
      for (Event event : session.chat(Chat.of(Message.user(question)))) {
        System.out.print(event.text());
      }
      System.out.println();
    }
  }
}
