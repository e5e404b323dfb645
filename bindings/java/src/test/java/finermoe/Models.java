package finermoe;

import java.nio.file.Path;
import java.util.Arrays;

/** The bundled models that tests use. */
final class Models {
  static final Path MOE = Path.of(System.getProperty("finermoe.models"), "tiny-wordnet-finermoe");
  static final Path DENSE = Path.of(System.getProperty("finermoe.models"), "tiny-wordnet-dense");
  /** A model of a few kilobytes with random weights, without a tokenizer. */
  static final Path SMALL = Path.of(System.getProperty("finermoe.shapes"), "dense-tied");

  private Models() {}

  static Model open() {
    return Model.open(MOE, ModelOptions.create().threads(2));
  }

  /** A prompt that takes a while. */
  static int[] longPrompt() {
    final int[] ids = new int[2000];
    Arrays.setAll(ids, i -> 260 + i % 1000);
    return ids;
  }

  static GenerationOptions endless(Model model) {
    return GenerationOptions.of(model).maxTokens(0).ignoreEos(true);
  }
}
