package finermoe;

/**
 * What became of the experts that a model fetches; all 0 if it fetches none.
 *
 * @param bytes of the device
 * @param nSlots experts that it holds
 * @param nHits chosen experts that were there, each counted once per layer and pass, since the model was opened
 * @param nMisses those that were copied
 */
public record ExpertCacheInfo(long bytes, long nSlots, long nHits, long nMisses) {

  static ExpertCacheInfo of(NativeExpertCacheInfo info) {
    return new ExpertCacheInfo(info.getBytes(), info.getNSlots(), info.getNHits(), info.getNMisses());
  }
}
