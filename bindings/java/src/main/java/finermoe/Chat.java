package finermoe;

import java.util.ArrayList;
import java.util.List;

/** A conversation. One thread at a time; others wait. */
public final class Chat extends NativeObject {
  private Chat() {
    super(NativeJNI::chatFree);
  }

  /**
   * A conversation that begins with some messages.
   *
   * @param messages any number
   * @return a new chat
   */
  public static Chat of(Message... messages) {
    final Chat chat = new Chat();
    Native.chatCreate(chat);
    for (Message message : messages) chat.add(message);
    return chat;
  }

  /**
   * Adds a message at the end.
   *
   * @param message with the role "system", "user" or "assistant"
   * @return this chat
   */
  public Chat add(Message message) {
    Native.chatAdd(this, message.role(), message.text());
    return this;
  }

  /**
   * How many messages it has.
   *
   * @return their number
   */
  public long size() {
    return Native.chatCount(this);
  }

  /**
   * One message.
   *
   * @param index 0 to {@link #size} - 1
   * @return a copy
   */
  public Message get(long index) {
    try (NativeChatMessage message = new NativeChatMessage()) {
      Native.chatGet(this, index, message);
      return new Message(message.getRole(), message.getText());
    }
  }

  /**
   * All messages.
   *
   * @return a copy
   */
  public List<Message> messages() {
    final List<Message> messages = new ArrayList<>();
    for (long i = 0; i < size(); i++) messages.add(get(i));
    return messages;
  }

  /**
   * Gives a message another text; it keeps its role.
   *
   * @param index 0 to {@link #size} - 1
   * @param text  the new one
   */
  public void set(long index, String text) {
    Native.chatSet(this, index, text);
  }

  /**
   * Forgets all messages from one on.
   *
   * @param n how many stay
   */
  public void truncate(long n) {
    Native.chatTruncate(this, n);
  }

  /**
   * Forgets the messages [begin, end).
   *
   * @param begin the first
   * @param end   behind the last
   */
  public void remove(long begin, long end) {
    Native.chatRemove(this, begin, end);
  }

  /**
   * The prompt as the tokenizer's chat template renders it. Special tokens typed into a message stay text.
   *
   * @param tokenizer with a chat template
   * @param flags     {@link TextFlag#NO_GENERATION_PROMPT}, {@link TextFlag#CONTINUE_LAST}
   * @return ids of tokens
   * @throws FinermoeException {@link ErrorCode#CHAT_TEMPLATE} for a template that is not supported
   */
  public int[] encode(Tokenizer tokenizer, TextFlag... flags) {
    final int[][] ids = {null};
    Native.chatEncode(this, tokenizer, TextFlag.bits(flags), ids);
    return ids[0];
  }

  /**
   * The same as text, for a person to read.
   *
   * @param tokenizer with a chat template
   * @param flags     {@link TextFlag#NO_GENERATION_PROMPT}, {@link TextFlag#CONTINUE_LAST}
   * @return the text
   */
  public String render(Tokenizer tokenizer, TextFlag... flags) {
    final byte[][] text = {null};
    Native.chatRender(this, tokenizer, TextFlag.bits(flags), text);
    return Utf8.decode(text[0]);
  }
}
