package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/pipes"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A station is a place to rent bikes, as the API returns it.
type station struct {
	ID       int32   `json:"id" parquet:"id"`
	Name     string  `json:"name" parquet:"name"`
	District int32   `json:"district" parquet:"district"`
	Lat      float64 `json:"lat" parquet:"lat"`
	Lon      float64 `json:"lon" parquet:"lon"`
	Docks    int32   `json:"docks" parquet:"docks"`
	Bikes    int32   `json:"bikes" parquet:"bikes"`
}

// stations publishes the table of all stations of an API.
func stations(ctx context.Context, l *link, j *job) error {
	all, err := fetchStations(ctx, l, j.api)
	if err != nil {
		return err
	}
	return publish(ctx, l, j, all, pipes.Metadata{"source": pipes.URL(j.api)})
}

// maxPages is a limit for an API whose pages form a loop.
const maxPages = 10_000

// fetchStations returns the stations of all pages.
func fetchStations(ctx context.Context, l *link, api string) (all []station, err error) {
	client := l.client("fetch_stations")
	next, err := url.Parse(api)
	if err != nil {
		return nil, retry.Permanent(fmt.Errorf("-api: %w", err))
	}
	for range maxPages {
		body, err := fetch(ctx, l, client, next.String())
		if err != nil {
			return nil, err
		}
		var page struct {
			Stations []station `json:"stations"`
			Next     string    `json:"next"` // "" on the last page
		}
		if err := json.Unmarshal(body, &page); err != nil {
			return nil, retry.Permanent(fmt.Errorf("page %d of stations: %w", len(all), err))
		}
		all = append(all, page.Stations...)
		if page.Next == "" {
			return all, nil
		}
		if next, err = next.Parse(page.Next); err != nil {
			return nil, retry.Permanent(fmt.Errorf("the next page: %w", err))
		}
	}
	return nil, retry.Permanent(fmt.Errorf("more than %d pages of stations", maxPages))
}

// fetch returns the body of a page. The client retries requests and resumes bodies;
// fetch retries a body that breaks and that the server cannot resume.
func fetch(ctx context.Context, l *link, client *http.Client, address string) ([]byte, error) {
	p := l.policy
	p.Name = "read_stations"
	return retry.Value(ctx, &p, func(ctx context.Context) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return nil, retry.Permanent(err)
		}
		res, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		defer func() { _ = res.Body.Close() }()
		if err := httpretry.GaveUp(res); err != nil {
			return nil, err
		}
		if res.StatusCode != http.StatusOK {
			return nil, retry.Permanent(fmt.Errorf("the API responds with %s", res.Status))
		}
		return io.ReadAll(res.Body)
	})
}
