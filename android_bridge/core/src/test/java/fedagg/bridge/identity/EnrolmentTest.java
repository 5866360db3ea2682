package fedagg.bridge.identity;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import fedagg.bridge.http.HttpsTransport;
import fedagg.bridge.wire.Digests;
import fedagg.bridge.wire.Messages;
import java.io.IOException;
import java.io.InputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.security.KeyStore;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.Collections;
import java.util.List;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledIfSystemProperty;
import org.junit.jupiter.api.io.TempDir;

/** The first contact, with a TLS server on loopback; that it leads to an identity is FleetTest's. */
@EnabledIfSystemProperty(named = "fedagg.keystore", matches = ".+")
class EnrolmentTest {
  private static final char[] PASSWORD = "fedagg".toCharArray();

  @TempDir Path folder;
  private final List<String> seen = Collections.synchronizedList(new ArrayList<>());

  private static KeyStore store() throws Exception {
    KeyStore store = KeyStore.getInstance("PKCS12");
    try (InputStream in = Files.newInputStream(Paths.get(System.getProperty("fedagg.keystore")))) {
      store.load(in, PASSWORD);
    }
    return store;
  }

  /** Serves so many connections, and notes of each whether its handshake came to an end. */
  private Thread serve(ServerSocket listener, int connections) throws Exception {
    return serve(listener, connections, socket -> seen.add(socket.getInputStream().read() < 0 ? "nothing" : "data"));
  }

  private interface Server {
    void serve(SSLSocket socket) throws IOException;
  }

  private Thread serve(ServerSocket listener, int connections, Server each) throws Exception {
    KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
    keys.init(store(), PASSWORD);
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(keys.getKeyManagers(), null, null);
    Thread server =
        new Thread(
            () -> {
              for (int i = 0; i < connections; i++) {
                try (SSLSocket socket =
                    (SSLSocket) context.getSocketFactory().createSocket(listener.accept(), null, true)) {
                  socket.setUseClientMode(false);
                  socket.startHandshake();
                  each.serve(socket);
                } catch (IOException error) {
                  seen.add("broken off");
                }
              }
            });
    server.start();
    return server;
  }

  private static Token token(byte[] authority) throws Exception {
    String zeros = new String(new char[43]).replace('\0', 'A');
    return Token.parse(
        "fedagg1." + zeros.substring(0, 11) + "." + zeros + "."
            + Base64.getUrlEncoder().withoutPadding().encodeToString(authority));
  }

  private String enrol(int port, Token token) throws Exception {
    FileKey key = FileKey.open(folder.resolve("key.pem"));
    IdentityException refused =
        assertThrows(
            IdentityException.class,
            () -> Enrolment.enrol("https://127.0.0.1:" + port, token, "d1", folder.resolve("identity"), key));
    assertFalse(Files.exists(folder.resolve("identity")));
    return refused.getMessage();
  }

  /** Whether the server is the token's or not: it is looked at, and the handshake is broken off. */
  @Test
  void theFirstContactTrustsNobodyAndSendsNothing() throws Exception {
    try (ServerSocket listener = new ServerSocket(0, 5, InetAddress.getByName("127.0.0.1"))) {
      Thread server = serve(listener, 2);
      String stranger = enrol(listener.getLocalPort(), token(new byte[32]));
      assertTrue(stranger.contains("none of its 1 certificates"), stranger);
      String nameless = enrol(listener.getLocalPort(), token(Digests.of(store().getCertificate("server").getEncoded())));
      assertTrue(nameless.contains("without a federation's name"), nameless); // its certificate was found, and read
      server.join();
    }
    assertEquals(Arrays.asList("broken off", "broken off"), seen);
  }

  /** The certificate may be made and the token spent: whoever took half an answer for a refusal would be out for good. */
  @Test
  void halfAnAnswerIsAskedForAgainWhateverItsStatus() throws Exception {
    byte[] whole = new Messages.Enrolled(new byte[300], new byte[300], "d1", "fed").encode();
    byte[] problem = new Messages.Problem("unknown", "token: got one that is not known here", -1).encode();
    for (String status : new String[] {"200 OK", "403 Forbidden", "503 Service Unavailable"}) {
      byte[] body = status.startsWith("200") ? whole : problem;
      for (int sent : new int[] {0, 1, body.length / 2, body.length - 1}) {
        assertThrows(IOException.class, () -> ask(status, body, sent), status + ", " + sent + " bytes");
      }
    }
    assertEquals(300, ask("200 OK", whole, whole.length).length);
    assertThrows(IdentityException.class, () -> ask("403 Forbidden", problem, problem.length)); // all of it is one
  }

  /** What a device makes of an answer of which so many bytes come before the line breaks. */
  private byte[] ask(String status, byte[] body, int sent) throws Exception {
    KeyStore trusted = KeyStore.getInstance("PKCS12");
    trusted.load(null, null);
    trusted.setCertificateEntry("server", store().getCertificate("server"));
    TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    trust.init(trusted);
    SSLContext client = SSLContext.getInstance("TLS");
    client.init(null, trust.getTrustManagers(), null);
    String head = "HTTP/1.1 " + status + "\r\nContent-Type: application/x-fedagg\r\nContent-Length: " + body.length + "\r\n\r\n";
    try (ServerSocket listener = new ServerSocket(0, 5, InetAddress.getByName("127.0.0.1"))) {
      serve(
          listener, 2, // the platform's client may send a request again by itself
          socket -> {
            socket.getInputStream().read(new byte[4096]);
            socket.getOutputStream().write(head.getBytes(StandardCharsets.US_ASCII));
            socket.getOutputStream().write(body, 0, sent);
          });
      HttpsTransport transport = new HttpsTransport(client.getSocketFactory(), 10_000, 10_000, 1 << 16);
      Messages.Enrol asked = new Messages.Enrol("t", "d1", "device", new byte[91], new byte[70], 1.5e9);
      return Enrolment.ask(transport, "https://127.0.0.1:" + listener.getLocalPort(), "/v1/enrol", asked);
    }
  }

  @Test
  void aServerThatShowsNothingIsTriedAgainNotBlamed() throws Exception {
    try (ServerSocket listener = new ServerSocket(0, 5, InetAddress.getByName("127.0.0.1"))) {
      Thread server =
          new Thread(
              () -> {
                try {
                  listener.accept().close();
                } catch (IOException error) {
                  seen.add(error.toString());
                }
              });
      server.start();
      String url = "https://127.0.0.1:" + listener.getLocalPort();
      FileKey key = FileKey.open(folder.resolve("key.pem"));
      Token token = token(new byte[32]);
      assertThrows(IOException.class, () -> Enrolment.enrol(url, token, "d1", folder.resolve("identity"), key));
      server.join();
    }
  }
}
