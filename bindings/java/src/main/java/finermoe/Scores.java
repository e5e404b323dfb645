package finermoe;

/**
 * How likely a model finds tokens.
 *
 * @param logprobs  [n] natural logarithm of the probability of each token behind all before it; NaN for the first one
 *                  of a session
 * @param likeliest [n] the token that was likeliest in its place; -1 for the first one of a session
 */
public record Scores(float[] logprobs, int[] likeliest) {}
