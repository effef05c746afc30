//go:build unix

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/secrettest"
)

// A secretProxy is a proxy whose upstream sends back secrets where net/http quotes them.
type secretProxy struct {
	name string
	args string   // ADDRESS is the upstream's
	own  bool     // the secrets are the proxy's own: no response may show them; else only those that the proxy itself makes
	of   []string // what the upstream sends back
	seen string   // what proves that secrets arrive: the log or a response has it
}

var secretProxies = []secretProxy{
	{"plain", "--to http://ADDRESS", false, []string{"signature", "escaped", "user", "password", "field", "cookie", "apikey", "key"}, "X: REDACTED"},
	{"policy", "--config proxy.yaml", false, []string{"field", "signature"}, "X: REDACTED"},
	{"s3", "--s3", true, []string{"field", "token"}, "X: REDACTED"},
	{"s3 with a client's key", "--s3 --client-key-file key", true, []string{"field", "token"}, "<Resource>/x</Resource>"},
}

// perdure proxy shows no secret of its clients, and none of its own, in its log, in the responses that it makes, on its pages, in files
// and in the status that it leaves.
func TestProxyKeepsSecrets(t *testing.T) {
	addr := echo(t)
	for _, p := range secretProxies {
		for _, level := range []string{"--log-level=debug", "--json"} {
			t.Run(p.name+" "+level, func(t *testing.T) { p.run(t, addr, level) })
		}
	}
}

func (p secretProxy) run(t *testing.T, addr, level string) {
	t.Helper()
	dir := t.TempDir()
	keyDir, err := os.MkdirTemp("", "perdure") //nolint:usetesting // a short path, as that of a socket must be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(keyDir) })
	key := filepath.Join(keyDir, "key") // the file is where a secret belongs
	for path, content := range map[string]string{
		key:                              "[default]\naws_access_key_id = " + secrettest.AccessKey + "\naws_secret_access_key = " + secrettest.SecretKey + "\n",
		filepath.Join(dir, "proxy.yaml"): "proxy:\n  /: {to: \"http://" + addr + "\"}\n",
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	socket := filepath.Join(keyDir, "s")
	environ := []string{
		"PERDURE_STATE=" + filepath.Join(dir, "state"), "TMPDIR=" + dir, "HOME=" + dir, "AWS_EC2_METADATA_DISABLED=true", "AWS_ENDPOINT_URL=http://" + addr,
		"AWS_ACCESS_KEY_ID=" + secrettest.AccessKey, "AWS_SECRET_ACCESS_KEY=" + secrettest.SecretKey, "AWS_SESSION_TOKEN=hunter2/session/token", // which no client sends
	}
	args := strings.Fields(strings.NewReplacer("ADDRESS", addr, "file key", "file "+key).Replace(p.args))
	log := new(text)
	c := command(t, environ, append([]string{
		"proxy", "--listen", "unix:" + socket, level, "--max-attempts", "2", "--base-delay", "1ms", "--jitter", "0", "--gate", "off", "--failure-threshold", "off", "--budget", "off",
	}, args...)...)
	c.Dir, c.Stdout, c.Stderr = dir, log, log
	start(t, c)
	eventually(t, "the proxy serves or fails", func() bool { return log.String() != "" })
	if !strings.Contains(log.String(), "Serving") {
		t.Fatal(log)
	}
	shown := p.request(t, socket)
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait() // the log tells
	for _, status := range []string{"status", "status --json", "status --prometheus"} {
		out, err := command(t, environ, strings.Fields(status)...).CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("http")) {
			t.Errorf("%s: %v\n%s", status, err, out)
		}
		shown += string(out)
	}
	for what, text := range map[string]string{"log": log.String(), "response or page": shown} {
		for _, found := range secrettest.Find(text) {
			t.Errorf("a %s shows %s", what, found)
		}
	}
	for _, file := range withSecret(t, dir) {
		t.Errorf("a file shows %s", file)
	}
	if !strings.Contains(log.String()+shown, p.seen) {
		t.Errorf("nothing shows %q\n%.2000s\n%.2000s", p.seen, log, shown)
	}
}

// request sends the proxy requests with secrets, which the upstream sends back in each way. It returns the responses and the pages
// in which no secret may be.
func (p secretProxy) request(t *testing.T, socket string) string {
	t.Helper()
	client := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	var shown strings.Builder
	made := 0 // responses of the proxy's own
	send := func(method, target string, change func(*http.Request)) {
		var body io.Reader = http.NoBody
		if method != http.MethodGet {
			body = strings.NewReader(`{"password":"` + secrettest.Password + `"}`)
		}
		req, err := http.NewRequestWithContext(t.Context(), method, "http://perdure"+target, body)
		if err != nil {
			t.Fatal(err)
		}
		change(req)
		res, err := client.RoundTrip(req)
		if err != nil { // the proxy has aborted the response
			return
		}
		defer res.Body.Close()
		dump, _ := httputil.DumpResponse(res, true)
		switch own := bytes.Contains(dump, []byte(`"attempts":`)) || bytes.Contains(dump, []byte("<Resource>")); {
		case own:
			made++
			fallthrough
		case p.own && res.StatusCode >= 400, strings.HasPrefix(target, "/.perdure"):
			shown.Write(dump)
		}
	}
	secrets := func(r *http.Request) {
		r.SetBasicAuth("hunter2user", secrettest.Password)
		r.Header.Set("Cookie", "session="+secrettest.Cookie)
		r.Header.Set("X-Api-Key", secrettest.Token)
		r.Header.Set("X-Amz-Server-Side-Encryption-Customer-Key", secrettest.CustomerKeyField())
	}
	for at := range echoes {
		for _, of := range p.of {
			target := fmt.Sprintf("/%d?of=%s&X-Amz-Signature=si%%2F%s&token=%s", at, of, secrettest.Signature, secrettest.Token)
			send(http.MethodGet, target, secrets)
			send(http.MethodPut, target, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+secrettest.Token) })
		}
	}
	other := "/x?X-Amz-Signature=" + secrettest.Signature + "&X-Amz-Credential=" + secrettest.AccessKey + "%2F20260101%2Fus-east-1%2Fs3%2Faws4_request"
	send(http.MethodGet, other, func(r *http.Request) { secrets(r); r.Host = secrettest.Token + ".example.com" })
	send(http.MethodGet, other, func(r *http.Request) { secrets(r); r.Header.Set("Origin", "http://user:"+secrettest.Password+"@host") })
	send(http.MethodGet, other, func(r *http.Request) {
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+secrettest.AccessKey+"/x, Signature="+secrettest.Signature)
	})
	send(http.MethodPost, "/.perdure/healthz", secrets)
	for _, page := range []string{"healthz", "metrics", "absent"} {
		send(http.MethodGet, "/.perdure/"+page+"?token="+secrettest.Token, secrets)
	}
	if made < len(echoes) || !strings.Contains(shown.String(), "perdure_proxy_requests_total") {
		t.Errorf("%d responses of the proxy's own\n%s", made, &shown)
	}
	return shown.String()
}
