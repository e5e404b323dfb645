package finermoe;

import java.util.List;

/**
 * One step of a generation.
 *
 * @param text         complete characters, safe to show; often "": what might become a stop string is held back
 * @param token        the token chosen, or -1: nothing was chosen
 * @param logprob      the natural logarithm of its probability in the model's own distribution
 * @param finishReason why the generation ended; {@link FinishReason#NONE} while it goes on
 * @param top          the likeliest tokens of the same distribution, likeliest first, as many as
 *                     {@link GenerationOptions#topLogprobs} asked for
 */
public record Event(String text, int token, float logprob, FinishReason finishReason, List<TokenLogprob> top) {}
