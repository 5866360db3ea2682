package fedagg.bridge.agent;

/**
 * What an application may want to know; called in the agent's thread. Nothing in it holds a sample, a label or a key. What it
 * throws ends {@link DeviceAgent#run()}; nothing is lost by that, the next run goes on.
 */
public interface AgentListener {
  /** The parent has answered hello. */
  default void connected(String parent) {}

  /** The agent has trained on its parent's knowledge of a version, and answers with its own. */
  default void round(long version, int rows, StepReport means) {}

  /** The training is over. */
  default void finished() {}

  /**
   * So many samples, or orders to forget some, wait because the parent does not take them as its limits are; 0: none does
   * any more. They go by themselves when it takes more.
   */
  default void setAside(int rows) {}

  /**
   * A request had no answer, and why: no network, another certificate, the page of a network that wants a login first. Told
   * once until the reason changes or the parent answers; the agent tries again by itself.
   */
  default void unreachable(String why) {}

  /** Something was refused, by the parent or here; the agent goes on as far as it can. */
  default void refused(String why) {}
}
