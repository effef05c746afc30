//go:build unix

package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/pipestest"
	"github.com/seed-0f2c7998/perdure/internal/secrettest"
)

// A secretPlace is a place in a command line, its environment or a file in which a text with a secret may be. In args and
// environ TEXT is the text after the word seen, and BARE is the text alone.
type secretPlace struct {
	args    string
	environ string
	seen    string // what proves that texts arrive: something written has it
	output  bool   // the command itself writes the text: only files are searched
}

// secretPlaces are used with each text, in this order and in one directory. Each row's texts are those of textsOf.
var secretPlaces = []secretPlace{
	{args: "run --name TEXT --max-attempts 2 --metrics-file m.prom -- false", seen: "Retrying seen"},
	{args: "run --max-attempts 2 --metrics-file m.prom -- ./script TEXT", seen: "arrived seen"},
	{args: "run --max-attempts 2 -- ./TEXT", seen: "seen"},
	{args: "run --max-attempts 2 -- ./loud TEXT", seen: "seen", output: true},
	{args: "run --store TEXT -- true", seen: "seen"},
	{args: "run --store BARE -- true", seen: "REDACTED@127.0.0.1"},
	{args: "run --metrics-file TEXT/x -- true", seen: "seen"},
	{args: "run --config TEXT -- true", seen: "seen"},
	{args: "run -- true", environ: "PERDURE_MAX_ATTEMPTS=TEXT", seen: "seen"},
	{args: "run -- true", environ: "PERDURE_STORE=BARE", seen: "REDACTED@127.0.0.1"},
	{args: "run -- true", environ: "PERDURE_CONFIG=TEXT", seen: "seen"},
	{args: "run -- true", environ: "PERDURE_METRICS_FILE=TEXT/x", seen: "seen"},
	{args: "run -- true", environ: "PERDURE_MAX_ATTEMPT=TEXT", seen: "PERDURE_MAX_ATTEMPT"},
	{args: "run -- true", environ: "PERDURE_TEXT=1", seen: "seen"},
	{args: "breaker trip TEXT", seen: "seen"},
	{args: "breaker trip TEXT/other", seen: "seen"},
	{args: "status", seen: "seen"},
	{args: "status --json", seen: "seen"},
	{args: "status --prometheus", seen: "seen"},
	{args: "status --store TEXT", seen: "seen"},
	{args: "status --store BARE", seen: "REDACTED@127.0.0.1"},
	{args: "breaker reset TEXT", seen: "seen"},
	{args: "TEXT", seen: "seen"},
	{args: "breaker TEXT", seen: "seen"},
	{args: "check TEXT", seen: "seen"},
	{args: "plan --config TEXT", seen: "seen"},
	{args: "simulate --scenario TEXT", seen: "seen"},
	{args: "s3 clean TEXT", seen: "seen"},
	{args: "copy TEXT x", seen: "seen"},
	{args: "copy BARE x --max-attempts 1", seen: "REDACTED@127.0.0.1"},
	{args: "copy file TEXT/x", seen: "seen"},
	{args: "copy file x --checksum TEXT", seen: "seen"},
	{args: "copy file s3://bikes/x --endpoint-url TEXT", seen: "seen"},
	{args: "copy file s3://bikes/x --endpoint-url BARE", seen: "REDACTED@127.0.0.1"},
	{args: "copy file s3://bikes/x --sse-c-key TEXT --endpoint-url https://127.0.0.1:1", seen: "seen"},
	{args: "copy -r . s3://bikes/x --manifest TEXT/m --endpoint-url http://127.0.0.1:1", seen: "seen"},
	{args: "proxy --to TEXT", seen: "seen"},
	{args: "proxy --to BARE", seen: "REDACTED@127.0.0.1"},
	{args: "proxy --to /x=BARE", seen: "REDACTED@127.0.0.1"},
	{args: "proxy --to http://127.0.0.1:1/,policy=TEXT --config policies.yaml", seen: "seen"},
	{args: "proxy --to http://127.0.0.1:1 --listen TEXT", seen: "seen"},
	{args: "proxy --to http://127.0.0.1:1 --listen unix:TEXT/x", seen: "seen"},
	{args: "proxy --to http://127.0.0.1:1 --listen 127.0.0.1:0 --client-key-file TEXT", seen: "seen"},
	{args: "proxy --s3 --to http://127.0.0.1:1 --listen 127.0.0.1:0 --client-key-file TEXT/x", seen: "seen"},
	{args: "proxy --s3 --to BARE", seen: "REDACTED@127.0.0.1"},
	{args: "proxy --s3 --listen 127.0.0.1:0", environ: "AWS_ENDPOINT_URL=BARE", seen: "REDACTED@127.0.0.1"},
	{args: "proxy --s3 --listen 127.0.0.1:0", environ: "AWS_PROFILE=TEXT", seen: "seen"},
}

// textsOf returns the texts for the nth place: all for a name, which becomes a key of files, labels and events; else a URL and
// some of the others, which all come up in several places.
func textsOf(n int, p secretPlace) []string {
	all := secrettest.Texts()
	if strings.HasPrefix(p.args, "run --name") {
		return all
	}
	some := []string{secrettest.SignedURL("127.0.0.1:1")}
	for i := range 3 {
		some = append(some, all[(3*n+i)%len(all)])
	}
	return some
}

// withText returns the text in place of TEXT and BARE.
func withText(in, text string) string {
	return strings.NewReplacer("TEXT", "seen "+text, "BARE", text).Replace(in)
}

// No text with a secret is in what a command writes, wherever in its command line, environment and files it is.
func TestTextsWithSecretsStaySecret(t *testing.T) {
	step := newStepWith(t, pipestest.Context("my_asset"), dict{"include_stdio_in_messages": true})
	for name, content := range map[string]string{
		"script": "#!/bin/sh\n[ -n \"$1\" ] && echo arrived seen\nexit 1\n", "loud": "#!/bin/sh\necho \"$1\"\necho \"$1\" >&2\nexit 1\n",
		"file": "bytes", "policies.yaml": "policies: {x: {}}\n",
	} {
		if err := os.WriteFile(filepath.Join(step.dir, name), []byte(content), 0o700); err != nil { //nolint:gosec // two are scripts
			t.Fatal(err)
		}
	}
	environ := append(step.environ, "HOME="+step.dir, "AWS_EC2_METADATA_DISABLED=true", "AWS_REGION=us-east-1", "PERDURE_MAX_ATTEMPTS=2",
		"AWS_ACCESS_KEY_ID="+secrettest.AccessKey, "AWS_SECRET_ACCESS_KEY="+secrettest.SecretKey, "AWS_SESSION_TOKEN="+secrettest.Token)
	modes := [][]string{nil, {"--json"}, {"--log-level=debug"}}
	for n, place := range secretPlaces {
		written := ""
		for i, text := range textsOf(n, place) {
			var args []string
			for word := range strings.FieldsSeq(place.args) {
				args = append(args, withText(word, text))
			}
			var out bytes.Buffer
			c := command(t, append(environ, withText(place.environ, text)), append(modes[(n+i)%len(modes)], args...)...)
			c.Dir, c.Stdout, c.Stderr = step.dir, &out, &out
			_ = c.Run() // the text tells
			written += out.String()
		}
		for _, found := range secrettest.Find(written) {
			if !place.output {
				t.Errorf("%s: it says %s", place.args, found)
			}
		}
		if !strings.Contains(written, place.seen) {
			t.Errorf("%s: it does not say %q\n%.2000s", place.args, place.seen, written)
		}
		for _, found := range withSecret(t, step.dir) {
			t.Errorf("%s: %s", place.args, found)
		}
	}
	for _, name := range []string{"m.prom", "messages", "state"} {
		if !holds(t, filepath.Join(step.dir, name), "seen") {
			t.Errorf("no text is in %s", name)
		}
	}
}

// holds reports whether a file, or one below a directory, has the text.
func holds(t *testing.T, path, text string) (found bool) {
	t.Helper()
	err := filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			content, failed := os.ReadFile(path)
			found, err = found || bytes.Contains(content, []byte(text)), failed
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return found
}

// No text with a secret is in what perdure check and plan say of a policy file, wherever in the file it is.
func TestPolicyFilesWithSecrets(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "p.yaml")
	for i := range policyFiles("") {
		written := ""
		for j, text := range secrettest.Texts() {
			content := policyFiles("seen " + text)[i]
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			output, err := os.Create(filepath.Join(dir, "output"))
			if err != nil {
				t.Fatal(err)
			}
			args := [][]string{{"check"}, {"check", "--json"}, {"plan", "--config"}}[j%3]
			a := &app{stdin: os.Stdin, stdout: output, stderr: output}
			a.main(t.Context(), append(args, path))
			_ = output.Close() // what it has is read below
			said, err := os.ReadFile(output.Name())
			if err != nil {
				t.Fatal(err)
			}
			for _, found := range secrettest.Find(string(said)) {
				t.Errorf("%s of %q says %s", args, content, found)
			}
			written += string(said)
		}
		if !strings.Contains(written, "seen") {
			t.Errorf("%q: nothing is said of it\n%.500s", policyFiles("TEXT")[i], written)
		}
	}
}
