package redisstore_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/storetest"
	"github.com/seed-0f2c7998/perdure/redisstore"
)

// processes returns a function that opens a store at url, each on a node of its own.
func processes(url string) func(*testing.T) storetest.Process {
	n := 0
	return func(t *testing.T) storetest.Process {
		t.Helper()
		n++
		s, err := redisstore.Open(redisstore.Options{
			URL: url, Node: "node-" + strconv.Itoa(n), Quorum: 1, Sync: 200 * time.Millisecond, Stale: 2 * time.Second,
		})
		if err != nil {
			t.Fatal(err)
		}
		return storetest.Process{Store: s, Ready: s.Ready, Close: s.Close}
	}
}

// The contract of a store, with a real server. TestOtherServers runs it with other
// servers.
func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		t.Helper()
		srv := startServer(t)
		return storetest.Subject{
			Open: processes(srv.url()), Away: srv.kill, Back: srv.start,
			Spoil: func(t *testing.T, name string) {
				t.Helper()
				c := srv.client()
				set := c.B().Hset().Key("circuit_breaker:"+name).FieldValue().FieldValue("format", "another").Build()
				if err := c.Do(t.Context(), set).Error(); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}
