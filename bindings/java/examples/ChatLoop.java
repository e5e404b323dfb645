import finermoe.Chat;
import finermoe.Event;
import finermoe.FinermoeException;
import finermoe.Message;
import finermoe.Model;
import finermoe.Session;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.file.Path;

/** Talks with a model; each line is a message, and the end of the input ends it. */
public class ChatLoop {
  private ChatLoop() {}

  /** ChatLoop MODEL. */
  public static void main(String[] arguments) throws IOException {
    if (arguments.length != 1 || arguments[0].startsWith("-")) {
      System.out.println("usage: ChatLoop MODEL");
      System.exit(arguments.length == 1 && arguments[0].equals("--help") ? 0 : 2);
    }
    final BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
    try (Model model = Model.open(Path.of(arguments[0])); Session session = model.session(); Chat chat = Chat.of()) {
      for (String line = prompt(lines); line != null; line = prompt(lines)) {
        chat.add(Message.user(line));
        final StringBuilder answer = new StringBuilder();
        for (Event event : session.chat(chat)) { // what the session holds of the chat is not computed again
          System.out.print(event.text());
          System.out.flush();
          answer.append(event.text());
        }
        System.out.println();
        chat.add(Message.assistant(answer.toString()));
      }
    } catch (FinermoeException error) {
      System.err.println(error.code() + ": " + error.getMessage());
      System.exit(1);
    }
  }

  private static String prompt(BufferedReader lines) throws IOException {
    System.out.print("> ");
    System.out.flush();
    return lines.readLine();
  }
}
