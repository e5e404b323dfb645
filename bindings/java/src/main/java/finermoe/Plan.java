package finermoe;

/**
 * Bytes that a model and its sessions take, before anything is loaded. Weights are mapped, not allocated, except those
 * that a device copies.
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
 * @param allocatedTotal kvCache, scratch, deviceWeights and expertCache: what a memory limit is compared with
 * @param bytesPerToken weight bytes that decoding one token reads
 * @param weightsEveryToken the weights that every token reads, which should stay in memory; routed experts and
 *     an untied embedding may come and go
 * @param memoryAvailable what this process could use at this moment, limits of its control groups included
 * @param deviceMemory of the device planned for: what was given, or all it has; 0 for one that uses the machine's
 *     memory, as are the next six and the last three
 * @param deviceWeights copies on the device, for {@link ModelOptions#deviceWeights(long)}
 * @param deviceTotal deviceWeights, expertCache, and what the device has of kvCache and scratch; more than deviceMemory
 *     if not even one layer fits
 * @param deviceLayers layers on the device, from the last; the CPU computes the others
 * @param deviceMoeLayers of these, MoE layers whose routed experts are there too, from the last
 * @param deviceRouted of weightsRouted, the experts of these MoE layers
 * @param deviceBytesPerToken of bytesPerToken, what the device reads, fetched experts too; the CPU reads the rest
 * @param hostWeights of weightsTotal, what is used or fetched where it is mapped
 * @param expertCache bytes of the device for experts that are fetched, in whole slots; 0 if none is
 * @param expertCacheSlots experts that it holds
 * @param fetchedBytesPerToken what decoding one token copies to the device, if experts are chosen evenly
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
    long memoryAvailable,
    long deviceMemory,
    long deviceWeights,
    long deviceTotal,
    long deviceLayers,
    long deviceMoeLayers,
    long deviceRouted,
    long deviceBytesPerToken,
    long hostWeights,
    long expertCache,
    long expertCacheSlots,
    long fetchedBytesPerToken) {

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
        info.getMemoryAvailable(),
        info.getDeviceMemory(),
        info.getDeviceWeights(),
        info.getDeviceTotal(),
        info.getDeviceLayers(),
        info.getDeviceMoeLayers(),
        info.getDeviceRouted(),
        info.getDeviceBytesPerToken(),
        info.getHostWeights(),
        info.getExpertCache(),
        info.getExpertCacheSlots(),
        info.getFetchedBytesPerToken());
  }
}
