package fedagg.bridge.client;

import fedagg.bridge.identity.Identity;
import fedagg.bridge.identity.IdentityException;
import fedagg.bridge.state.DeviceState;
import fedagg.bridge.wire.Request;
import fedagg.bridge.wire.Response;
import java.io.IOException;
import java.util.Collections;
import java.util.Random;

/** A client whose parent is what a test says. */
public final class FakeLink {
  private FakeLink() {}

  /** A parent's answers. */
  public interface Parent {
    Response any(Request request) throws Exception;
  }

  public static WireClient client(DeviceState state, Identity identity, String url, Parent parent)
      throws IdentityException {
    return new WireClient(
        state, identity, url, Collections.<String>emptyList(), 600, "test", "all", 25, new Random(1),
        request -> {
          try {
            return parent.any(request);
          } catch (Exception error) {
            throw new IOException(error);
          }
        });
  }
}
