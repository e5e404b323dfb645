import finermoe.GenerationOptions;
import finermoe.Model;
import finermoe.ModelOptions;
import java.awt.Component;
import java.awt.Container;
import java.awt.Rectangle;
import java.awt.Robot;
import java.awt.event.WindowEvent;
import java.io.File;
import java.nio.file.Path;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import javax.imageio.ImageIO;
import javax.swing.JButton;
import javax.swing.JFrame;
import javax.swing.JScrollPane;
import javax.swing.JTextArea;
import javax.swing.JTextField;
import javax.swing.SwingUtilities;

/** Uses the example ChatWindow as a person would: ChatWindowDriver MODEL SCREENSHOT. */
public class ChatWindowDriver {
  private static JFrame window;

  private ChatWindowDriver() {}

  public static void main(String[] arguments) throws Exception {
    // AWT is at work before the library is loaded.
    SwingUtilities.invokeAndWait(() -> {
      final JFrame first = new JFrame("first");
      first.setSize(50, 50);
      first.setVisible(true);
    });
    final Model model = Model.open(Path.of(arguments[0]), ModelOptions.create().threads(1));
    System.out.println(model.generate("A ship", GenerationOptions.of(model)));
    SwingUtilities.invokeAndWait(() -> {
      window = new ChatWindow(model);
      window.setLocation(0, 0);
      window.setVisible(true);
    });
    final Latency latency = new Latency();
    latency.start();
    ask("Define the noun \"lighthouse\".");
    ask("Define the verb \"gallop\".");
    ask("Define the noun \"compass\".");
    latency.end();
    SwingUtilities.invokeAndWait(() -> find(window, JTextField.class).setText("Define the noun \"ship\"."));
    TimeUnit.MILLISECONDS.sleep(200);
    final Rectangle place = window.getBounds();
    ImageIO.write(new Robot().createScreenCapture(place), "png", new File(arguments[1]));
    SwingUtilities.invokeAndWait(() -> System.out.println(find(window, JTextArea.class).getText().strip()));
    System.out.println("longest pause " + latency.longest.get() / 1_000_000 + " ms");

    // The window is closed while an answer runs.
    SwingUtilities.invokeAndWait(() -> {
      find(window, JButton.class).doClick(0);
      window.dispatchEvent(new WindowEvent(window, WindowEvent.WINDOW_CLOSING));
    });
    System.out.println(model.isClosed() ? "closed" : "open");
    System.exit(0);
  }

  /** How long the window's thread lets others wait. */
  private static final class Latency extends Thread {
    final AtomicLong longest = new AtomicLong();
    private volatile boolean ended;

    @Override
    public void run() {
      while (!ended) {
        final long begin = System.nanoTime();
        try {
          SwingUtilities.invokeAndWait(() -> { });
          TimeUnit.MILLISECONDS.sleep(2);
        } catch (java.lang.reflect.InvocationTargetException | InterruptedException error) {
          throw new AssertionError(error);
        }
        longest.accumulateAndGet(System.nanoTime() - begin, Math::max);
      }
    }

    void end() throws InterruptedException {
      ended = true;
      join();
    }
  }

  private static void ask(String question) throws Exception {
    SwingUtilities.invokeAndWait(() -> {
      find(window, JTextField.class).setText(question);
      find(window, JButton.class).doClick(0);
    });
    final boolean[] answered = {false};
    while (!answered[0]) {
      TimeUnit.MILLISECONDS.sleep(10);
      SwingUtilities.invokeAndWait(() -> answered[0] = find(window, JButton.class).getText().equals("Send"));
    }
  }

  private static <T> T find(Container container, Class<T> type) {
    for (Component component : container.getComponents()) {
      if (component instanceof JScrollPane scroll && type == JTextArea.class) component = scroll.getViewport();
      if (component instanceof JScrollPane) continue; // its bars have buttons too
      if (type.isInstance(component)) return type.cast(component);
      final T inside = component instanceof Container one ? find(one, type) : null;
      if (inside != null) return inside;
    }
    return null;
  }
}
