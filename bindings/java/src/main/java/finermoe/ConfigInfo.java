package finermoe;

/**
 * The shape of a model, in the terms of the paper (arXiv 2603.13364) and of config.json.
 *
 * @param dtype type of the bulk of the weights
 * @param modelType "finer_moe", "qwen2", "qwen2_moe"
 * @param hiddenSize h: width of the hidden states
 * @param intermediateSize H: width of a dense FFN
 * @param nLayers number of layers
 * @param nMoeLayers number of Mixture-of-Experts layers
 * @param nHeads number of attention heads
 * @param nKvHeads number of heads of keys and values
 * @param headSize of each attention head
 * @param vocabSize rows of the embedding; may exceed the tokenizer's ids
 * @param maxPositions positions that the model is for
 * @param granularityInter G_I; 0 in a dense model, as all up to expertOutputWidth
 * @param expansionInter R_I
 * @param granularityOutput G_O
 * @param expansionOutput R_O
 * @param nExperts N = G_O R_O G_I R_I (Eq. 5)
 * @param nExpertsPerToken G_O T_I
 * @param expertWidth H_e
 * @param expertOutputWidth h_e = h / G_O
 * @param sharedExpertWidth 0: no shared expert
 * @param hasConcatProj whether output components are projected together
 * @param hasSeparateRouter whether the output components have a second router
 * @param normTopkProb whether the weights of the chosen experts are normalized
 * @param tiedEmbeddings whether the embedding is the head too
 * @param rmsNormEps epsilon of the norms
 * @param ropeTheta base of the rotary frequencies
 * @param parametersTotal in the checkpoint: embeddings and head counted as stored
 * @param parametersActive of these, the ones that one token uses
 * @param ropeScaling of the rotary frequencies: "none", "linear", "yarn", "llama3"
 * @param ropeFactor 1 without a scaling
 * @param ropeOriginalPositions that the model was trained for ("yarn", "llama3"), else 0
 * @param ropeAttentionFactor of queries and keys ("yarn"); 1 without
 * @param slidingWindow positions that a token sees in some layers, itself included; 0: all layers see all
 * @param nSlidingLayers number of layers with a sliding window
 */
public record ConfigInfo(
    DType dtype,
    String modelType,
    long hiddenSize,
    long intermediateSize,
    long nLayers,
    long nMoeLayers,
    long nHeads,
    long nKvHeads,
    long headSize,
    long vocabSize,
    long maxPositions,
    long granularityInter,
    long expansionInter,
    long granularityOutput,
    long expansionOutput,
    long nExperts,
    long nExpertsPerToken,
    long expertWidth,
    long expertOutputWidth,
    long sharedExpertWidth,
    boolean hasConcatProj,
    boolean hasSeparateRouter,
    boolean normTopkProb,
    boolean tiedEmbeddings,
    double rmsNormEps,
    double ropeTheta,
    long parametersTotal,
    long parametersActive,
    String ropeScaling,
    double ropeFactor,
    long ropeOriginalPositions,
    double ropeAttentionFactor,
    long slidingWindow,
    long nSlidingLayers) {

  static ConfigInfo of(NativeConfigInfo info) {
    return new ConfigInfo(
        DType.of(info.getDtype()),
        info.getModelType(),
        info.getHiddenSize(),
        info.getIntermediateSize(),
        info.getNLayers(),
        info.getNMoeLayers(),
        info.getNHeads(),
        info.getNKvHeads(),
        info.getHeadSize(),
        info.getVocabSize(),
        info.getMaxPositions(),
        info.getGranularityInter(),
        info.getExpansionInter(),
        info.getGranularityOutput(),
        info.getExpansionOutput(),
        info.getNExperts(),
        info.getNExpertsPerToken(),
        info.getExpertWidth(),
        info.getExpertOutputWidth(),
        info.getSharedExpertWidth(),
        info.getHasConcatProj() != 0,
        info.getHasSeparateRouter() != 0,
        info.getNormTopkProb() != 0,
        info.getTiedEmbeddings() != 0,
        info.getRmsNormEps(),
        info.getRopeTheta(),
        info.getParametersTotal(),
        info.getParametersActive(),
        info.getRopeScaling(),
        info.getRopeFactor(),
        info.getRopeOriginalPositions(),
        info.getRopeAttentionFactor(),
        info.getSlidingWindow(),
        info.getNSlidingLayers());
  }
}
