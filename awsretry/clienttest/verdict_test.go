package clienttest_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkretry "github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/seed-0f2c7998/perdure/awsretry"
)

// fail sends an error of that code, as the protocol of the request has it.
func fail(w http.ResponseWriter, r *http.Request, status int, code string) {
	w.Header().Set("X-Amzn-Errortype", code)
	w.WriteHeader(status)
	switch {
	case r.Header.Get("Content-Type") == "application/x-www-form-urlencoded":
		fmt.Fprintf(w, "<ErrorResponse><Error><Code>%s</Code></Error></ErrorResponse>", code)
	case r.URL.Path == "/b/k":
		fmt.Fprintf(w, "<Error><Code>%s</Code></Error>", code)
	default:
		fmt.Fprintf(w, `{"__type": "%s"}`, code)
	}
}

// A token file's content is the token.
type tokenFile string

func (f tokenFile) GetIdentityToken() ([]byte, error) { return []byte(f), nil }

// What a client or an operation has the SDK retry was one attempt under Apply.
func TestWhatTheSDKRetriesIsRetried(t *testing.T) {
	token := func(ctx context.Context, cfg aws.Config) error {
		_, err := stscreds.NewWebIdentityRoleProvider(sts.NewFromConfig(cfg), "arn:aws:iam::1:role/r", tokenFile("t")).Retrieve(ctx)
		return err
	}
	tables := func(mine ...string) func(context.Context, aws.Config) error {
		return func(ctx context.Context, cfg aws.Config) error {
			client := dynamodb.NewFromConfig(cfg, func(o *dynamodb.Options) { o.Retryer = sdkretry.AddWithErrorCodes(o.Retryer, mine...) })
			_, err := client.ListTables(ctx, &dynamodb.ListTablesInput{})
			return err
		}
	}
	for name, tt := range map[string]struct {
		call     func(context.Context, aws.Config) error
		status   int
		code     string
		requests int64
	}{
		"added by STS":                     {operations["GetCallerIdentity"], 400, "IDPCommunicationError", 3},
		"added for a token":                {token, 400, "InvalidIdentityToken", 3},
		"of STS, for another operation":    {operations["GetCallerIdentity"], 400, "InvalidIdentityToken", 1},
		"added by the user":                {tables("Mine"), 400, "Mine", 3},
		"not added":                        {tables("Mine"), 400, "Yours", 1},
		"a limit, which the SDK waits for": {tables(), 400, "LimitExceededException", 3},
	} {
		for how, twice := range map[string]bool{"once": false, "twice": true} {
			t.Run(name+", applied "+how, func(t *testing.T) {
				var requests atomic.Int64
				server := start(t, func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					requests.Add(1)
					fail(w, r, tt.status, tt.code)
				})
				p := quick(t)
				cfg := configure(server)
				awsretry.Apply(&cfg, &p)
				if twice {
					awsretry.Apply(&cfg, &p)
				}
				if err := tt.call(t.Context(), cfg); err == nil || requests.Load() != tt.requests {
					t.Errorf("always %s: %d requests, %v, want %d", tt.code, requests.Load(), err, tt.requests)
				}
			})
		}
	}
}

// A token that the instance's metadata service takes no more is replaced, as the SDK does.
func TestRefusedTokenOfMetadataIsReplaced(t *testing.T) {
	var tokens atomic.Int64
	server := start(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut:
			w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "600")
			fmt.Fprint(w, tokens.Add(1))
		case r.Header.Get("X-Aws-Ec2-Metadata-Token") == "1":
			w.WriteHeader(http.StatusUnauthorized)
		default:
			_, _ = io.WriteString(w, "found")
		}
	})
	p := quick(t)
	cfg := configure(server)
	awsretry.Apply(&cfg, &p)
	out, err := metadata(cfg).GetMetadata(t.Context(), &imds.GetMetadataInput{Path: "p"})
	if err != nil || tokens.Load() != 2 {
		t.Fatalf("%v with %d tokens, want 2", err, tokens.Load())
	}
	if text, _ := io.ReadAll(out.Content); string(text) != "found" {
		t.Errorf("%q, want what was found", text)
	}
}

// Only Apply, which has seen the configuration, fetched expired credentials again.
func TestExpiredCredentialsAreFetchedAgainForEachClient(t *testing.T) {
	for name, call := range operations {
		if name == "ListAccounts" || name == "GetMetadata" {
			continue // they sign nothing
		}
		t.Run(name, func(t *testing.T) {
			var signed []string
			server := start(t, func(w http.ResponseWriter, r *http.Request) {
				_, key, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
				key, _, _ = strings.Cut(key, "/")
				if signed = append(signed, key); key == "key1" {
					fail(w, r, http.StatusBadRequest, "ExpiredToken")
					return
				}
				fail(w, r, http.StatusNotFound, "NotFound")
			})
			fetched := 0
			cfg := configure(server)
			cfg.Credentials = aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
				fetched++
				return aws.Credentials{AccessKeyID: fmt.Sprint("key", fetched), SecretAccessKey: "secret"}, nil
			}))
			p := quick(t)
			cfg.APIOptions = append(cfg.APIOptions, awsretry.Option(&p))
			if err := call(t.Context(), cfg); err == nil || fetched != 2 || fmt.Sprint(signed) != "[key1 key2]" {
				t.Errorf("credentials fetched %d times, requests signed with %v, %v, want 2, key1 and key2", fetched, signed, err)
			}
		})
	}
}
