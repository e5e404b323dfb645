import finermoe.Chat;
import finermoe.Event;
import finermoe.FinermoeException;
import finermoe.Generation;
import finermoe.Message;
import finermoe.Model;
import finermoe.Session;
import java.awt.BorderLayout;
import java.awt.Dimension;
import java.awt.Font;
import java.awt.event.WindowAdapter;
import java.awt.event.WindowEvent;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.ExecutionException;
import javax.swing.BorderFactory;
import javax.swing.JButton;
import javax.swing.JFrame;
import javax.swing.JPanel;
import javax.swing.JScrollPane;
import javax.swing.JTextArea;
import javax.swing.JTextField;
import javax.swing.SwingUtilities;
import javax.swing.SwingWorker;

/** A chat in a window. Answers come from another thread, so that the window never waits for one. */
public class ChatWindow extends JFrame {
  private static final long serialVersionUID = 1;

  /** Of this window alone; used on the thread of the answer that runs. */
  private final transient Model model;
  private final transient Session session;
  private final transient Chat chat = Chat.of();
  private final JTextArea text = new JTextArea();
  private final JTextField line = new JTextField();
  private final JButton button = new JButton("Send");
  private transient Answer answer;

  /** A window on a model, which is closed with it. */
  public ChatWindow(Model model) {
    super("FineRMoE");
    this.model = model;
    session = model.session();
    text.setEditable(false);
    text.setLineWrap(true);
    text.setWrapStyleWord(true);
    text.setFont(new Font(Font.SANS_SERIF, Font.PLAIN, 15));
    text.setBorder(BorderFactory.createEmptyBorder(8, 8, 8, 8));
    final JPanel below = new JPanel(new BorderLayout(6, 0));
    below.setBorder(BorderFactory.createEmptyBorder(6, 6, 6, 6));
    below.add(line, BorderLayout.CENTER);
    below.add(button, BorderLayout.EAST);
    add(new JScrollPane(text), BorderLayout.CENTER);
    add(below, BorderLayout.SOUTH);
    line.addActionListener(event -> send());
    button.addActionListener(event -> sendOrStop());
    addWindowListener(new WindowAdapter() {
      @Override
      public void windowClosing(WindowEvent event) {
        session.close(); // ends an answer that runs
        ChatWindow.this.model.close();
        dispose();
      }
    });
    setPreferredSize(new Dimension(560, 360));
    pack();
  }

  /** ChatWindow MODEL. */
  public static void main(String[] arguments) {
    if (arguments.length != 1 || arguments[0].startsWith("-")) {
      System.out.println("usage: ChatWindow MODEL");
      System.exit(arguments.length == 1 && arguments[0].equals("--help") ? 0 : 2);
    }
    final Model model;
    try {
      model = Model.open(Path.of(arguments[0]));
    } catch (FinermoeException error) {
      System.err.println(error.code() + ": " + error.getMessage());
      System.exit(1);
      return;
    }
    SwingUtilities.invokeLater(() -> new ChatWindow(model).setVisible(true));
  }

  private void sendOrStop() {
    if (answer == null) {
      send();
    } else {
      answer.stop();
    }
  }

  private void send() {
    if (answer != null || line.getText().isBlank()) return;
    text.append("You: " + line.getText() + "\n\nModel: ");
    chat.add(Message.user(line.getText()));
    line.setText("");
    button.setText("Stop");
    answer = new Answer();
    answer.execute();
  }

  /** One answer: computed on a thread of its own, shown on the window's. */
  private final class Answer extends SwingWorker<String, String> {
    private volatile Generation generation;

    @Override
    protected String doInBackground() {
      final StringBuilder whole = new StringBuilder();
      try (Generation running = session.chat(chat)) {
        generation = running;
        for (Event event : running) {
          whole.append(event.text());
          publish(event.text());
        }
      } catch (FinermoeException error) {
        switch (error.code()) {
          case CANCELLED, CLOSED -> publish(" …");
          default -> throw error;
        }
      }
      return whole.toString();
    }

    void stop() {
      if (generation != null) generation.cancel();
    }

    @Override
    protected void process(List<String> pieces) {
      pieces.forEach(text::append);
      text.setCaretPosition(text.getDocument().getLength());
    }

    @Override
    protected void done() {
      try {
        chat.add(Message.assistant(get()));
        text.append("\n\n");
      } catch (ExecutionException error) {
        text.append("[" + error.getCause().getMessage() + "]\n\n");
      } catch (InterruptedException error) {
        Thread.currentThread().interrupt();
      }
      answer = null;
      button.setText("Send");
    }
  }
}
