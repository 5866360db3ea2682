package fedagg.bridge.http;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import fedagg.bridge.wire.Request;
import fedagg.bridge.wire.Response;
import java.io.BufferedInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.InetAddress;
import java.net.Socket;
import java.net.SocketException;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.security.KeyStore;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLServerSocket;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.SSLSocketFactory;
import javax.net.ssl.TrustManagerFactory;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledIfSystemProperty;

/** The transport against a TLS server on loopback that answers byte for byte what a test says. */
@EnabledIfSystemProperty(named = "fedagg.keystore", matches = ".+")
class HttpsTransportTest {
  private static final char[] PASSWORD = "fedagg".toCharArray();
  private static final String BREAK = "BREAK";
  private static final String SILENCE = "SILENCE";

  private SSLContext context;
  private SSLServerSocket listener;
  private volatile SSLSocket current;
  private Thread server;
  private final Deque<String> answers = new ArrayDeque<>();
  private final List<String> requests = new ArrayList<>();
  private final AtomicInteger connections = new AtomicInteger();
  private HttpsTransport transport;
  private String url;

  @BeforeEach
  void serve() throws Exception {
    KeyStore store = KeyStore.getInstance("PKCS12");
    try (InputStream in = Files.newInputStream(Paths.get(System.getProperty("fedagg.keystore")))) {
      store.load(in, PASSWORD);
    }
    KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
    keys.init(store, PASSWORD);
    KeyStore trusted = KeyStore.getInstance("PKCS12");
    trusted.load(null, null);
    trusted.setCertificateEntry("server", store.getCertificate("server"));
    TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    trust.init(trusted);
    context = SSLContext.getInstance("TLS");
    context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
    listener =
        (SSLServerSocket)
            context.getServerSocketFactory().createServerSocket(0, 5, InetAddress.getByName("127.0.0.1"));
    url = "https://127.0.0.1:" + listener.getLocalPort();
    transport = new HttpsTransport(context.getSocketFactory(), 10_000, 10_000, 1000);
    server = new Thread(this::accept);
    server.setDaemon(true);
    server.start();
  }

  @AfterEach
  void stop() throws Exception {
    listener.close();
    if (current != null) {
      current.close(); // which the client keeps alive
    }
    server.join(10_000);
  }

  private void accept() {
    while (true) {
      try (SSLSocket socket = (SSLSocket) listener.accept()) {
        connections.incrementAndGet();
        current = socket;
        InputStream in = new BufferedInputStream(socket.getInputStream());
        while (answer(in, socket)) {
          // the next one on the same connection
        }
      } catch (SocketException closed) {
        if (listener.isClosed()) {
          return;
        }
      } catch (IOException broken) {
        // the client has gone
      }
    }
  }

  private boolean answer(InputStream in, SSLSocket socket) throws IOException {
    String head = line(in);
    if (head.isEmpty()) {
      return false;
    }
    StringBuilder all = new StringBuilder(head).append('\n');
    int length = 0;
    for (String header = line(in); !header.isEmpty(); header = line(in)) {
      all.append(header).append('\n');
      if (header.toLowerCase(java.util.Locale.ROOT).startsWith("content-length:")) {
        length = Integer.parseInt(header.substring(15).trim());
      }
    }
    byte[] body = new byte[length];
    for (int at = 0; at < length; ) {
      at += in.read(body, at, length - at);
    }
    String answer;
    synchronized (answers) {
      requests.add(all + new String(body, StandardCharsets.ISO_8859_1));
      answer = answers.isEmpty() ? BREAK : answers.poll();
    }
    if (answer.equals(SILENCE)) {
      return in.read() >= 0; // until the client gives up
    }
    if (!answer.startsWith(BREAK)) {
      socket.getOutputStream().write(answer.getBytes(StandardCharsets.ISO_8859_1));
      socket.getOutputStream().flush();
      return !answer.contains("Connection: close");
    }
    socket.getOutputStream().write(answer.substring(BREAK.length()).getBytes(StandardCharsets.ISO_8859_1));
    return false;
  }

  private static String line(InputStream in) throws IOException {
    ByteArrayOutputStream found = new ByteArrayOutputStream();
    for (int one = in.read(); one >= 0 && one != '\n'; one = in.read()) {
      if (one != '\r') {
        found.write(one);
      }
    }
    return new String(found.toByteArray(), StandardCharsets.ISO_8859_1);
  }

  private static String http(String status, String headers, String body) {
    return "HTTP/1.1 " + status + "\r\n" + headers + "Content-Length: " + body.length() + "\r\n\r\n" + body;
  }

  private void willAnswer(String... all) {
    synchronized (answers) {
      for (String each : all) {
        answers.add(each);
      }
    }
  }

  private static Request post(String body) {
    return new Request("POST", "/v1/hello", body.getBytes(StandardCharsets.ISO_8859_1));
  }

  @Test
  void requestsAreAsTheDocumentSaysAndShareAConnection() throws IOException {
    willAnswer(http("200 OK", "", "one"), "HTTP/1.1 204 No Content\r\n\r\n", http("200 OK", "", ""));
    assertArrayEquals("one".getBytes(StandardCharsets.US_ASCII), transport.send(url, post("body")).body);
    Response none = transport.send(url, new Request("PUT", "/v1/chunks/ab", new byte[] {1}));
    assertEquals(204, none.status);
    assertEquals(0, none.body.length);
    transport.send(url, new Request("GET", "/v1/entries/1/0", new byte[0]));
    assertEquals(1, connections.get());
    String first = requests.get(0);
    assertTrue(first.startsWith("POST /v1/hello HTTP/1.1\n"), first);
    assertTrue(first.contains("\nContent-Type: application/x-fedagg\n"), first);
    assertTrue(first.contains("\nContent-Length: 4\n") && first.endsWith("body"), first);
    assertTrue(!first.contains("Transfer-Encoding") && !first.contains("gzip"), first);
    assertTrue(requests.get(2).startsWith("GET /v1/entries/1/0 HTTP/1.1\n"), requests.get(2));
  }

  @Test
  void everyStatusComesWithItsBodyAndItsRetryAfter() throws IOException {
    for (String status : new String[] {"400 x", "401 x", "403 x", "404 x", "407 x", "409 x", "429 x", "500 x", "503 x"}) {
      willAnswer(http(status, "Retry-After: 1.5\r\n", "why"));
      Response answer = transport.send(url, post("x"));
      assertEquals(Integer.parseInt(status.substring(0, 3)), answer.status);
      assertEquals("why", new String(answer.body, StandardCharsets.US_ASCII), status);
      assertEquals(1.5, answer.retryAfter);
    }
    willAnswer(http("503 x", "Retry-After: Wed, 21 Oct 2026 07:28:00 GMT\r\n", ""));
    assertEquals(-1, transport.send(url, post("x")).retryAfter);
  }

  @Test
  void redirectsAreNotFollowed() throws IOException {
    willAnswer(http("302 x", "Location: https://elsewhere.example/\r\n", ""));
    assertEquals(302, transport.send(url, post("x")).status);
  }

  @Test
  void whatIsNotAWholeAnswerIsNone() throws IOException {
    String[] bad = {
      BREAK + "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", // ends in the middle
      BREAK + "HTTP/1.1 200 OK\r\n\r\nno length",
      "HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n" + new String(new char[1001]), // over what was agreed
      BREAK + "SSH-2.0-OpenSSH\r\n\r\n",
    };
    for (String each : bad) {
      willAnswer(each);
      assertThrows(IOException.class, () -> transport.send(url, post("x")), each.substring(0, 20));
    }
    willAnswer(http("200 OK", "", "well"));
    assertEquals(200, transport.send(url, post("x")).status); // nothing of before is left
  }

  @Test
  void silenceEndsAndSoDoesAnInterrupt() throws Exception {
    HttpsTransport hasty = new HttpsTransport(context.getSocketFactory(), 10_000, 300, 1000);
    willAnswer(SILENCE);
    assertThrows(IOException.class, () -> hasty.send(url, post("x")));
    willAnswer(SILENCE);
    Thread cutter =
        new Thread(
            () -> {
              try {
                while (true) {
                  Thread.sleep(100);
                  transport.interrupt();
                }
              } catch (InterruptedException done) {
                Thread.currentThread().interrupt();
              }
            });
    cutter.start();
    long began = System.nanoTime();
    assertThrows(HttpsTransport.EndedException.class, () -> transport.send(url, post("x")));
    cutter.interrupt();
    cutter.join();
    assertTrue(System.nanoTime() - began < 9_000_000_000L, "the read timeout ended it, not the interrupt");
  }

  @Test
  void anInterruptBeforeTheRequestIsSentIsNotLost() throws Exception {
    willAnswer(http("200 OK", "", "one"), http("200 OK", "", "two"));
    transport.interrupt();
    assertThrows(HttpsTransport.EndedException.class, () -> transport.send(url, post("x")));
    assertEquals(0, requests.size());
    assertEquals("one", new String(transport.send(url, post("x")).body, StandardCharsets.US_ASCII)); // it ends one
  }

  /** The interrupt comes while the socket is being made: there is nothing yet that could be disconnected. */
  @Test
  void anInterruptWhileConnectingIsNotLost() throws Exception {
    willAnswer(SILENCE);
    HttpsTransport[] slow = new HttpsTransport[1];
    SSLSocketFactory interrupting =
        new Hooked(context.getSocketFactory(), () -> slow[0].interrupt());
    slow[0] = new HttpsTransport(interrupting, 10_000, 60_000, 1000);
    assertTrue(
        assertThrows(HttpsTransport.EndedException.class, () -> slow[0].send(url, post("x"))).getMessage() != null);
    assertEquals(0, requests.size());
  }

  /** As Android's do now and then, when another thread is reading: that must not end the application. */
  @Test
  void aConnectionThatStumblesWhenItIsEndedIsEndedQuietly() throws Exception {
    AtomicInteger ended = new AtomicInteger();
    HttpURLConnection stumbling =
        new HttpURLConnection(new URL("https://127.0.0.1:1")) {
          @Override
          public void disconnect() {
            ended.incrementAndGet();
            throw new ArrayIndexOutOfBoundsException("-1");
          }

          @Override
          public boolean usingProxy() {
            return false;
          }

          @Override
          public void connect() {}
        };
    HttpsTransport.quietly(stumbling);
    assertEquals(1, ended.get());
  }

  /** Runs something before it makes a socket. */
  private static final class Hooked extends SSLSocketFactory {
    private final SSLSocketFactory real;
    private final Runnable hook;

    Hooked(SSLSocketFactory real, Runnable hook) {
      this.real = real;
      this.hook = hook;
    }

    @Override
    public String[] getDefaultCipherSuites() {
      return real.getDefaultCipherSuites();
    }

    @Override
    public String[] getSupportedCipherSuites() {
      return real.getSupportedCipherSuites();
    }

    @Override
    public Socket createSocket() throws IOException {
      hook.run();
      return real.createSocket();
    }

    @Override
    public Socket createSocket(Socket under, String host, int port, boolean close) throws IOException {
      hook.run();
      return real.createSocket(under, host, port, close);
    }

    @Override
    public Socket createSocket(String host, int port) throws IOException {
      hook.run();
      return real.createSocket(host, port);
    }

    @Override
    public Socket createSocket(String host, int port, InetAddress local, int localPort) throws IOException {
      hook.run();
      return real.createSocket(host, port, local, localPort);
    }

    @Override
    public Socket createSocket(InetAddress host, int port) throws IOException {
      hook.run();
      return real.createSocket(host, port);
    }

    @Override
    public Socket createSocket(InetAddress host, int port, InetAddress local, int localPort) throws IOException {
      hook.run();
      return real.createSocket(host, port, local, localPort);
    }
  }

  @Test
  void aPortalsPageIsNoAnswerWhateverItsStatus() throws IOException {
    for (String status : new String[] {"200 OK", "429 x", "503 x"}) {
      willAnswer(http(status, "Content-Type: Text/HTML; charset=utf-8\r\n", "<p>log in</p>"));
      IOException told = assertThrows(IOException.class, () -> transport.send(url, post("x")), status);
      assertTrue(told.getMessage().contains("with text/html") && told.getMessage().contains("portal"), told.getMessage());
    }
    for (String media : new String[] {"application/x-fedagg", "application/octet-stream", "application/json; q=1"}) {
      willAnswer(http("200 OK", "Content-Type: " + media + "\r\n", "x"));
      assertEquals(1, transport.send(url, post("x")).body.length);
    }
  }

  @Test
  void anAnswerMayBeAsLongAsWasAgreedForIt() throws IOException {
    String longer = new String(new char[3000]).replace('\0', 'x');
    willAnswer(http("200 OK", "", longer), http("200 OK", "", longer));
    assertEquals(3000, transport.send(url, post("x"), 3000).body.length);
    assertThrows(IOException.class, () -> transport.send(url, post("x")));
  }

  @Test
  void onlyHttpsIsSpoken() {
    assertThrows(IOException.class, () -> transport.send("http://127.0.0.1:1", post("x")));
  }
}
