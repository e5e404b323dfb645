package finermoe;

/**
 * Bytes that a model and its sessions take, before anything is loaded. Weights are mapped, not allocated.
 *
 * @param weightsEmbeddings embedding and, where it is not tied, head
 * @param weightsAttention with biases, and all norms
 * @param weightsDense FFNs of dense layers
 * @param weightsShared shared experts, their gates, and concat projections
 * @param weightsRouted routed experts
 * @param weightsRouter router matrices, concat gates included
 * @param weightsTotal all weights
 * @param kvCache the KV caches of all sessions
 * @param scratch activations of the largest step, on all threads
 * @param allocatedTotal kvCache + scratch: what a memory limit is compared with
 * @param bytesPerToken weight bytes that decoding one token reads
 * @param weightsEveryToken the weights that every token reads, which should stay in memory; routed experts and
 *     an untied embedding may come and go
 * @param memoryAvailable what this process could use at this moment, limits of its control groups included
 */
public record Plan(
    long weightsEmbeddings,
    long weightsAttention,
    long weightsDense,
    long weightsShared,
    long weightsRouted,
    long weightsRouter,
    long weightsTotal,
    long kvCache,
    long scratch,
    long allocatedTotal,
    long bytesPerToken,
    long weightsEveryToken,
    long memoryAvailable) {

  static Plan of(NativePlan info) {
    return new Plan(
        info.getWeightsEmbeddings(),
        info.getWeightsAttention(),
        info.getWeightsDense(),
        info.getWeightsShared(),
        info.getWeightsRouted(),
        info.getWeightsRouter(),
        info.getWeightsTotal(),
        info.getKvCache(),
        info.getScratch(),
        info.getAllocatedTotal(),
        info.getBytesPerToken(),
        info.getWeightsEveryToken(),
        info.getMemoryAvailable());
  }
}
