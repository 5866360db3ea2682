package fedagg.bridge.kernels;

/** How the logits of several teachers become one. The order is the native library's. */
public enum Aggregation {
  /** The weighted mean of the logits. */
  MEAN_LOGITS,
  /** Logits whose softmax is the weighted mean of the softmaxes. */
  MEAN_PROBABILITIES,
  /** MEAN_LOGITS in which a teacher counts by exp(-entropy) of its row: whoever is sure counts more. */
  ENTROPY_WEIGHTED,
  /** For every class the mean without the largest and smallest shares; a weight only says who takes part. */
  TRIMMED_MEAN,
  /** For every class the middle value or the mean of the middle two; a weight only says who takes part. */
  MEDIAN
}
