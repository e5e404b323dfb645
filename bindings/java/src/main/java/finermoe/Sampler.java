package finermoe;

import java.nio.FloatBuffer;

/**
 * The choice of tokens alone, for logits that come from elsewhere: bias, penalties, bans, temperature and filters of
 * some options, and a random stream. One thread at a time; others wait.
 */
public final class Sampler extends NativeObject {
  private Sampler() {
    super(NativeJNI::samplerFree);
  }

  /**
   * A sampler.
   *
   * @param options copied; null: greedy. What ends or reports a generation means nothing here
   * @return a new one
   */
  public static Sampler create(GenerationOptions options) {
    final Sampler sampler = new Sampler();
    Native.samplerCreate(options, sampler);
    return sampler;
  }

  /**
   * Takes notice of a prompt: the repetition penalty counts its tokens.
   *
   * @param ids of tokens
   */
  public void acceptPrompt(int[] ids) {
    Native.samplerAcceptPrompt(this, ids);
  }

  /**
   * Takes notice of a token that was generated, chosen here or elsewhere.
   *
   * @param id of the token
   */
  public void accept(int id) {
    Native.samplerAccept(this, id);
  }

  /**
   * Chooses a token; does not accept it.
   *
   * @param logits [vocabulary]
   * @return its id
   */
  public int choose(float[] logits) {
    final int[] id = {-1};
    Native.samplerChoose(this, logits, id);
    return id[0];
  }

  /**
   * The same from a buffer.
   *
   * @param logits [vocabulary] a direct buffer in native order, from its position to its limit
   * @return its id
   */
  public int choose(FloatBuffer logits) {
    final int[] id = {-1};
    Native.samplerChoose(this, Floats.direct(logits), id);
    return id[0];
  }
}
