// Servers runs the servers of the example pipeline on this machine: an API of bike
// stations, in pages, and an S3 store. Both fail now and then, as a seed decides.
// Servers writes the environment for their clients to standard output, and runs until
// ctrl-C.
//
//	servers > .env
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// bucket holds the pipeline's tables.
const bucket = "bike-data-bucket"

func main() {
	seed := flag.Uint64("seed", 1, "seed of the faults")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *seed); err != nil {
		fmt.Fprintln(os.Stderr, "servers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, seed uint64) error {
	store, err := s3test.New(s3test.Options{Buckets: []string{bucket}, Faults: s3test.TypicalFaults(seed)})
	if err != nil {
		return err
	}
	defer store.Close()
	api := httptestfault.New(newAPI(seed).respond)
	defer api.Close()
	fmt.Printf("STATIONS_URL=%s/stations\nAWS_ENDPOINT_URL=%s\nAWS_ACCESS_KEY_ID=%s\nAWS_SECRET_ACCESS_KEY=%s\n",
		api.URL, store.URL, store.AccessKey, store.SecretKey)
	fmt.Fprintln(os.Stderr, "The servers run until ctrl-C.")
	<-ctx.Done()
	return nil
}

// The number of stations.
const (
	pages   = 5
	perPage = 40
)

// An api serves pages of stations. About one response in three is a failure.
type api struct {
	random *rand.Rand // guarded by the server's lock, as failed is
	failed int        // failures in a row
}

func newAPI(seed uint64) *api { return &api{random: rand.New(rand.NewPCG(seed, seed))} }

// respond is the server's script.
func (a *api) respond(_ int, r *http.Request) httptestfault.Response {
	number, _ := strconv.Atoi(r.URL.Query().Get("page"))
	step := page(max(number, 1))
	if a.failed == 2 || a.random.IntN(3) > 0 { // a client with three attempts gets through
		a.failed = 0
		return step
	}
	a.failed++
	switch a.random.IntN(3) {
	case 0:
		return httptestfault.Response{Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"1"}}}
	case 1:
		return step.With(httptestfault.ResetBody(len(step.Body) / 2))
	default:
		return httptestfault.Response{Status: http.StatusServiceUnavailable}
	}
}

// page returns a successful response.
func page(number int) httptestfault.Response {
	if number > pages {
		return httptestfault.Response{Status: http.StatusNotFound}
	}
	streets := []string{"Harbour", "Mill", "Station", "Orchard", "Museum", "Chapel", "Market", "River"}
	var all []map[string]any
	for i := range perPage {
		n := (number-1)*perPage + i
		all = append(all, map[string]any{
			"id": 31000 + n, "name": fmt.Sprintf("%s Street %d", streets[n%len(streets)], 1+n/len(streets)), "district": 1 + n%10,
			"lat": 38.8 + float64(n*37%200)/1000, "lon": -77.1 + float64(n*61%200)/1000, "docks": 11 + n%24, "bikes": n % 11,
		})
	}
	body := map[string]any{"page": number, "pages": pages, "stations": all}
	if number < pages {
		body["next"] = fmt.Sprintf("/stations?page=%d", number+1)
	}
	text, err := json.Marshal(body)
	if err != nil {
		panic(err) // numbers and names can be encoded
	}
	return httptestfault.Response{Header: http.Header{"Content-Type": {"application/json"}}, Body: text}
}
