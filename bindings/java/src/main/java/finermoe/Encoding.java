package finermoe;

/**
 * The tokens of a text, and where each stands.
 *
 * @param ids     [n] of the tokens
 * @param offsets [2 n] begin and end of each token in the bytes of the UTF-8 text; 0 and 0 of one that the tokenizer
 *                puts around it
 */
public record Encoding(int[] ids, long[] offsets) {}
