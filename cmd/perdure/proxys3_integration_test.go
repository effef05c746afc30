//go:build integration && unix

package main

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-0f2c7998/perdure/internal/versitygwtest"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// A faultyStore is a store with the bucket bikes and with faults in front of it.
type faultyStore struct {
	*s3test.Server

	gateway *versitygwtest.Gateway // which has the objects; nil means that the Server has them
}

// newFaultyStore returns a store in which the requests with these numbers fail, of each operation and object, in the way that is
// worst for the operation.
func newFaultyStore(t *testing.T, gateway bool, nth ...int) faultyStore {
	t.Helper()
	first := func(operation string, fault s3test.Fault) s3test.Rule {
		return s3test.Rule{Operation: operation, Nth: nth, Fault: fault}
	}
	o, store := s3test.Options{}, faultyStore{}
	if gateway {
		g := versitygwtest.Start(t, "us-east-1")
		o, store.gateway = s3test.Options{Upstream: g.URL, AccessKey: g.Access, SecretKey: g.Secret}, g
	}
	store.Server = s3test.Start(t, o)
	body := bytes.Repeat(allBytes(), 1024)
	c := s3.New(s3.Options{
		BaseEndpoint: &store.URL, Region: "us-east-1", UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(store.AccessKey, store.SecretKey, ""),
	})
	if _, err := c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("bikes")}); err != nil {
		t.Fatal(err)
	}
	for key, content := range map[string][]byte{"seed": body, "seed-large": bytes.Repeat(body, 44), "seed-gone": body, "seed-gone-too": body} {
		if _, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("bikes"), Key: &key, Body: bytes.NewReader(content)}); err != nil {
			t.Fatal(err)
		}
	}
	store.Reset()
	store.SetScript(s3test.Rules(
		s3test.Rule{Prefix: "/bikes/seed", Operation: "PutObject", Nth: nth, Fault: s3test.Failure(400, "RequestTimeout")},
		first("PutObject", s3test.LostResponse()), first("GetObject", s3test.CutBody(100_000)), first("HeadObject", s3test.SlowDown()),
		first("CreateMultipartUpload", s3test.InternalError()), first("UploadPart", s3test.Reset()), first("CompleteMultipartUpload", s3test.LostResponse()),
		first("CopyObject", s3test.ErrorIn200()), first("ListObjectsV2", s3test.CutBody(100)), first("ListObjects", s3test.CutBody(100)),
		first("DeleteObject", s3test.LostResponse()), first("DeleteObjects", s3test.Hangup()),
	))
	return store
}

// object returns the content of an object; nil means that it does not exist.
func (s faultyStore) object(key string) []byte {
	if s.gateway == nil {
		content, _ := s.Object("bikes", key)
		return content
	}
	content, _ := os.ReadFile(filepath.Join(s.gateway.Data, "bikes", key))
	return content
}

// onBoth runs a test in front of the store of s3test and of versitygw, a server of another project.
func onBoth(t *testing.T, test func(t *testing.T, gateway bool)) {
	t.Helper()
	for name, gateway := range map[string]bool{"s3test": false, "versitygw": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, gateway)
		})
	}
}

func allBytes() []byte {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	return all
}

// environS3 is the environment of a client of a store at an address.
func environS3(url, id, secret string) []string {
	return []string{
		"AWS_ENDPOINT_URL=" + url, "AWS_ACCESS_KEY_ID=" + id, "AWS_SECRET_ACCESS_KEY=" + secret, "AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1",
		"AWS_MAX_ATTEMPTS=1", "AWS_CONFIG_FILE=" + os.DevNull, "AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull, "NO_PROXY=*",
	}
}

// proxied starts `perdure proxy --s3` in front of a store, and returns the environment that it prints for its clients.
func proxied(t *testing.T, store faultyStore, flags ...string) []string {
	t.Helper()
	c := command(t, environS3("", store.AccessKey, store.SecretKey), append([]string{"proxy", "--s3", "--to", store.URL, "--listen", "127.0.0.1:0"}, flags...)...)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, c)
	t.Cleanup(func() {
		_ = c.Process.Signal(os.Interrupt)
		_ = c.Wait()
	})
	values := make(map[string]string)
	for lines := bufio.NewScanner(out); len(values) < 3 && lines.Scan(); {
		name, value, _ := strings.Cut(strings.TrimPrefix(lines.Text(), "export "), "=")
		values[name] = value
	}
	if len(values) < 3 {
		t.Fatal("the proxy printed no key")
	}
	return environS3(values["AWS_ENDPOINT_URL"], values["AWS_ACCESS_KEY_ID"], values["AWS_SECRET_ACCESS_KEY"])
}

// client runs a client and returns its output.
func client(t *testing.T, environ []string, program string, args ...string) (string, error) {
	t.Helper()
	c := exec.CommandContext(t.Context(), program, args...)
	own := slices.DeleteFunc(os.Environ(), func(variable string) bool { return strings.HasPrefix(variable, "AWS_") })
	c.Env = append(append(own, environ...), "RCLONE_CONFIG="+os.DevNull, "RCLONE_CONFIG_P_TYPE=s3", "RCLONE_CONFIG_P_PROVIDER=Other", "RCLONE_CONFIG_P_ENV_AUTH=true",
		"RCLONE_CONFIG_P_ENDPOINT="+strings.TrimPrefix(environ[0], "AWS_ENDPOINT_URL="), "RCLONE_RETRIES=1", "RCLONE_LOW_LEVEL_RETRIES=1")
	out, err := c.CombinedOutput()
	return string(out), err
}

// pythonOfS3 returns the directory with the programs of a Python environment with boto3 and aws-cli.
func pythonOfS3(t *testing.T) string {
	t.Helper()
	venv := os.Getenv("PERDURE_TEST_BOTO3")
	if venv == "" {
		t.Skip("PERDURE_TEST_BOTO3 does not name a Python environment with boto3 and awscli (`make integration` installs it)")
	}
	return filepath.Join(venv, "bin")
}

// Each operation of boto3 ends well through the proxy. Without it, and with one attempt too, each fails.
func TestBoto3ThroughTheProxy(t *testing.T) {
	t.Parallel()
	python := filepath.Join(pythonOfS3(t), "python")
	onBoth(t, func(t *testing.T, gateway bool) {
		t.Helper()
		store, direct := newFaultyStore(t, gateway, 1), newFaultyStore(t, gateway, 1)
		through, err := client(t, proxied(t, store), python, "testdata/s3client.py", t.TempDir())
		if err != nil {
			t.Fatal(err, through)
		}
		without, err := client(t, environS3(direct.URL, direct.AccessKey, direct.SecretKey), python, "testdata/s3client.py", t.TempDir())
		if err != nil {
			t.Fatal(err, without)
		}
		lines := strings.Split(strings.TrimSpace(through), "\n")
		if len(lines) != 11 {
			t.Errorf("%d operations, want 11: %s", len(lines), through)
		}
		for _, line := range lines {
			if !strings.HasSuffix(line, ": ok") {
				t.Errorf("through the proxy: %s", line)
			}
		}
		if strings.Contains(without, ": ok") {
			t.Errorf("without the proxy:\n%s", without)
		}
		for key, times := range map[string]int{"put": 1, "once": 1, "copy": 1, "seed": 1, "parts": 44, "seed-large": 44, "seed-gone": 0, "seed-gone-too": 0} {
			want := bytes.Repeat(allBytes(), times*1024)
			if key == "once" {
				want = want[:1024]
			}
			if got := store.object(key); !bytes.Equal(got, want) {
				t.Errorf("the object %s has %d bytes", key, len(got))
			}
		}
	})
}

// A client with the wrong secret reaches nothing.
func TestBoto3WithAWrongSecret(t *testing.T) {
	t.Parallel()
	python := filepath.Join(pythonOfS3(t), "python")
	store := newFaultyStore(t, false, 1)
	environ := append(proxied(t, store), "AWS_SECRET_ACCESS_KEY="+store.SecretKey)
	out, err := client(t, environ, python, "testdata/s3client.py", t.TempDir())
	if err != nil || strings.Contains(out, ": ok") || !strings.Contains(out, "SignatureDoesNotMatch") {
		t.Errorf("%v:\n%s", err, out)
	}
	for _, r := range store.Requests() {
		t.Errorf("%s %s reached the store", r.Method, r.Path)
	}
}

// commandLines runs commands of a client through the proxy, where each ends well, and without it, where each fails. In a command,
// {} stands for a file of 11 MiB, and {small} for one of 1 KiB: versitygw may refuse a conditional put, and close the connection,
// before it has read a body that is larger than the buffers of the connection. A command that begins with ~ is run through the
// proxy only, because the client repeats it by itself.
func commandLines(t *testing.T, program string, flags []string, nth []int, commands ...string) {
	t.Helper()
	onBoth(t, func(t *testing.T, gateway bool) {
		t.Helper()
		store, direct := newFaultyStore(t, gateway, nth...), newFaultyStore(t, gateway, nth...)
		environs := [][]string{proxied(t, store, flags...), environS3(direct.URL, direct.AccessKey, direct.SecretKey)}
		large, small := filepath.Join(t.TempDir(), "large"), filepath.Join(t.TempDir(), "small")
		content := bytes.Repeat(allBytes(), 44*1024)
		write(t, large, content)
		write(t, small, content[:1024])
		for i, environ := range environs {
			for _, line := range commands {
				line, repeats := strings.CutPrefix(line, "~")
				if repeats && i == 1 {
					continue
				}
				args := strings.Fields(strings.NewReplacer("{}", large, "{small}", small, "{url}", strings.TrimPrefix(environ[0], "AWS_ENDPOINT_URL="),
					"{key}", strings.TrimPrefix(environ[1], "AWS_ACCESS_KEY_ID=")+":"+strings.TrimPrefix(environ[2], "AWS_SECRET_ACCESS_KEY=")).Replace(line))
				if out, err := client(t, environ, program, args...); (err == nil) != (i == 0) {
					t.Errorf("%s, with the proxy: %t: %v\n%s", line, i == 0, err, out)
				}
			}
			if i == 1 {
				break
			}
			for name, got := range map[string][]byte{"up": store.object("up"), "down": file(t, large+".back")} {
				if !bytes.Equal(got, content) {
					t.Errorf("%s: %d bytes, want %d", name, len(got), len(content))
				}
			}
		}
		if gone := store.object("seed-gone"); gone != nil {
			t.Error("the object was not deleted")
		}
	})
}

func file(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	return content
}

func TestAWSCLIThroughTheProxy(t *testing.T) {
	t.Parallel()
	commandLines(t, filepath.Join(pythonOfS3(t), "aws"), nil, []int{1},
		"s3 cp {} s3://bikes/up", "s3 cp s3://bikes/seed-large {}.back",
		"s3api put-object --bucket bikes --key once --if-none-match * --body {small}", "s3 rm s3://bikes/seed-gone")
}

func TestRcloneThroughTheProxy(t *testing.T) {
	t.Parallel()
	rclone, err := exec.LookPath("rclone")
	if err != nil {
		t.Skip("rclone is missing (`make integration` installs it)")
	}
	// rclone makes up to two attempts whatever its options say. So three of four requests must fail, which a budget of 10 does not pay for.
	commandLines(t, rclone, []string{"--max-attempts", "4", "--budget", "100"}, []int{1, 2, 3}, "copyto {} p:bikes/up --s3-upload-cutoff 5M", "~copyto p:bikes/seed-large {}.back", "~lsf p:bikes/",
		"copyto p:bikes/seed p:bikes/copy", "copyto {small} p:bikes/once", "deletefile p:bikes/seed-gone")
}

// curl signs by itself.
func TestCurlThroughTheS3Proxy(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is missing")
	}
	const sign = " --silent --show-error --fail-with-body --aws-sigv4 aws:amz:us-east-1:s3 --user {key} --header x-amz-content-sha256:UNSIGNED-PAYLOAD "
	commandLines(t, program, nil, []int{1}, sign+"--upload-file {} {url}/bikes/up", sign+"--output {}.back {url}/bikes/seed-large",
		sign+"--request DELETE {url}/bikes/seed-gone", sign+"--head {url}/bikes/seed")
}
