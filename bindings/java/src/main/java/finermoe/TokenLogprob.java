package finermoe;

/**
 * A token and the natural logarithm of its probability.
 *
 * @param token   its id
 * @param logprob the logarithm
 */
public record TokenLogprob(int token, float logprob) {}
