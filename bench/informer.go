// The informer peer of bench/newest.py: it prints what an informer of client-go sees of one resource, a
// line of JSON an event.
//
//	informer KUBECONFIG GROUP VERSION RESOURCE
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	config, err := clientcmd.BuildConfigFromFlags("", os.Args[1])
	if err != nil {
		panic(err)
	}
	client := dynamic.NewForConfigOrDie(config)
	resource := schema.GroupVersionResource{Group: os.Args[2], Version: os.Args[3], Resource: os.Args[4]}
	informer := dynamicinformer.NewFilteredDynamicInformer(
		client, resource, metav1.NamespaceAll, 0, cache.Indexers{}, nil,
	).Informer()
	output := json.NewEncoder(os.Stdout)
	show := func(kind string, object any) {
		if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
			object = gone.Obj
		}
		one := object.(*unstructured.Unstructured)
		output.Encode(map[string]string{
			"type": kind, "name": one.GetName(), "version": one.GetResourceVersion(),
			"label": one.GetLabels()["count"],
		})
	}
	informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { show("add", object) },
		UpdateFunc: func(_, object any) { show("update", object) },
		DeleteFunc: func(object any) { show("delete", object) },
	})
	stop := make(chan struct{})
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	go func() { <-interrupted; close(stop) }()
	go func() {
		if cache.WaitForCacheSync(stop, informer.HasSynced) {
			fmt.Println(`{"type":"synced"}`)
		}
	}()
	informer.Run(stop)
}
