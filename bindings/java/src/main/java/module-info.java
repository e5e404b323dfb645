/** FineRMoE language models in this process. */
module finermoe {
  exports finermoe;
}
