package fedagg.bridge.wire;

/** What the neighbour sent is not what docs/protocol.md says. The message names the field, what came, what was due. */
public final class ProtocolException extends Exception {
  private static final long serialVersionUID = 1L;

  public ProtocolException(String message) {
    super(message);
  }
}
