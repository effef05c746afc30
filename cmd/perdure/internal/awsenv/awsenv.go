// Package awsenv reads the AWS environment. Its errors say which variable or flag to set.
package awsenv

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/aws/smithy-go/logging"

	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// Source is the name, in errors, of an endpoint URL that no flag has set.
const Source = "the endpoint URL of the AWS environment"

// CheckURL returns an error about field if text is not the URL of a store; "" means AWS. Credentials in a URL are an error:
// they would have no effect, and would be logged.
func CheckURL(field, text string) error {
	want := "an http or https URL, such as http://localhost:9000"
	u, err := url.Parse(text)
	switch {
	case text == "":
		return nil
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
	case u.User != nil:
		want += ", without user information: credentials come from the AWS environment"
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		want += ", without a query"
	default:
		return nil
	}
	return setting.Bad(field, text, want)
}

// Config returns the configuration of the environment. If endpoint or profile is not empty, it overrides the endpoint URL or
// the profile. Unless unsigned is set, Config returns an error if there are no credentials.
func Config(ctx context.Context, endpoint, profile string, unsigned bool) (aws.Config, error) {
	for _, name := range []string{"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"} {
		if os.Getenv(name) == "" {
			_ = os.Unsetenv(name) // set and empty, it would hide the endpoint of a section [services ...] from the SDK
		}
	}
	cfg, err := config.LoadDefaultConfig(ctx, config.WithLogger(logging.Nop{}), config.WithSharedConfigProfile(profile))
	if err != nil {
		return cfg, fmt.Errorf("AWS environment: %s", oneLine(err.Error()))
	}
	for _, source := range cfg.ConfigSources {
		if shared, ok := source.(config.SharedConfig); ok && shared.ServicesSectionName != "" && shared.Services.ServiceValues == nil {
			return cfg, fmt.Errorf("AWS environment: profile %s has services = %s, and there is no section [services %[2]s] with settings", shared.Profile, shared.ServicesSectionName)
		}
	}
	if endpoint != "" {
		cfg.BaseEndpoint = aws.String(endpoint)
	}
	if err := CheckURL(Source, aws.ToString(cfg.BaseEndpoint)); err != nil {
		return cfg, err
	}
	if cache, ok := cfg.Credentials.(*aws.CredentialsCache); ok {
		cfg.Credentials = discreet{cache}
	}
	cfg.Region = cmp.Or(cfg.Region, "us-east-1")
	if unsigned {
		return cfg, nil
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		if ctx.Err() != nil {
			return cfg, context.Cause(ctx)
		}
		return cfg, fmt.Errorf("no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or use --no-sign-request (%s)", oneLine(err.Error()))
	}
	return cfg, nil
}

// discreet has errors without what a credential_process has printed: that may be a warning and then the credentials.
type discreet struct{ *aws.CredentialsCache }

// Retrieve returns the credentials.
func (d discreet) Retrieve(ctx context.Context) (aws.Credentials, error) {
	c, err := d.CredentialsCache.Retrieve(ctx)
	if e, ok := errors.AsType[*processcreds.ProviderError](err); ok && strings.Contains(e.Error(), "process output: ") {
		err = fmt.Errorf("credential_process must print credentials in JSON, and nothing else: %w", errors.Unwrap(e.Err))
	}
	return c, err
}

// Key reads a key from a file with its 32 bytes, or with their base64.
func Key(path string) ([]byte, error) {
	const size, enough = 32, 1 << 10
	f, err := os.Open(path)
	var text []byte
	if err == nil {
		text, err = io.ReadAll(io.LimitReader(f, enough)) // a device may be endless
		_ = f.Close()
	}
	if err != nil {
		return nil, setting.Unreadable("--sse-c-key", path, err)
	}
	if len(text) == size {
		return text, nil
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(key) != size { // the error must not describe the key
		return nil, setting.Bad("--sse-c-key", path, "a file with the 32 bytes of a key, or with their base64")
	}
	return key, nil
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
