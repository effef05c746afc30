//go:build integration

package objects_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-0f2c7998/perdure/internal/versitygwtest"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// bothServers runs f with an in-process server, and with one in front of versitygw: both with the faults of o, and a
// record of the requests.
func bothServers(t *testing.T, o s3test.Options, f func(t *testing.T, server *s3test.Server)) {
	t.Helper()
	t.Run("in the process", func(t *testing.T) { f(t, start(t, o)) })
	t.Run("versitygw", func(t *testing.T) { f(t, startGateway(t).behind(t, o)) })
}

// A gateway is a versitygw with our bucket.
type gateway struct{ *versitygwtest.Gateway }

func startGateway(t *testing.T) gateway {
	t.Helper()
	return gateway{versitygwtest.Start(t, region, bucket)}
}

func (g gateway) client() *s3.Client {
	return s3.NewFromConfig(aws.Config{
		Region: region, BaseEndpoint: &g.URL, Credentials: credentials.NewStaticCredentialsProvider(g.Access, g.Secret, ""),
	}, func(o *s3.Options) { o.UsePathStyle = true })
}

// behind starts a server with faults in front of the gateway.
func (g gateway) behind(t *testing.T, o s3test.Options) *s3test.Server {
	t.Helper()
	o.Upstream, o.AccessKey, o.SecretKey = g.URL, g.Access, g.Secret
	return s3test.Start(t, o)
}
