package fedagg.bridge.agent;

/** Losses of one step before its update, or their means over a pass. */
public final class StepReport {
  public final double loss;
  public final double privateCrossEntropy;
  public final double bridgeCrossEntropy;
  public final double divergence;

  public StepReport(double loss, double privateCrossEntropy, double bridgeCrossEntropy, double divergence) {
    this.loss = loss;
    this.privateCrossEntropy = privateCrossEntropy;
    this.bridgeCrossEntropy = bridgeCrossEntropy;
    this.divergence = divergence;
  }
}
