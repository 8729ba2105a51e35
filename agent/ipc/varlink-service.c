/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ipc/varlink-service.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"

#define SERVICE "org.varlink.service"

/* Source: https://varlink.org/Service, word for word as far as it is normative. */
static const char description[] =
	"# The Varlink Service Interface is provided by every varlink service. It\n"
	"# describes the service and the interfaces it implements.\n"
	"interface org.varlink.service\n"
	"\n"
	"# Get a list of all the interfaces a service provides and information\n"
	"# about the implementation.\n"
	"method GetInfo() -> (\n"
	"  vendor: string,\n"
	"  product: string,\n"
	"  version: string,\n"
	"  url: string,\n"
	"  interfaces: []string\n"
	")\n"
	"\n"
	"# Get the description of an interface that is implemented by this service.\n"
	"method GetInterfaceDescription(interface: string) -> (description: string)\n"
	"\n"
	"# The requested interface was not found.\n"
	"error InterfaceNotFound (interface: string)\n"
	"\n"
	"# The requested method was not found\n"
	"error MethodNotFound (method: string)\n"
	"\n"
	"# The interface defines the requested method, but the service does not\n"
	"# implement it.\n"
	"error MethodNotImplemented (method: string)\n"
	"\n"
	"# One of the passed parameters is invalid.\n"
	"error InvalidParameter (parameter: string)\n";

/**
 * varlink_service_refuse() - answer with an error of org.varlink.service
 * @error: "InvalidParameter" …
 * @name:  of its only parameter
 *
 * Return: as varlink_reply().
 */
int varlink_service_refuse(struct varlink_call *call, const char *error, const char *name,
			   const char *value)
{
	_cleanup_(json_putp) struct json_object *parameters = json_object_new_object();
	_cleanup_(freep) char *whole = NULL;
	int r;

	if (!parameters)
		return -ENOMEM;
	r = json_set_string(parameters, name, value);
	if (r == 0)
		r = text_format(&whole, SERVICE ".%s", error);
	return r < 0 ? r : varlink_error(call, whole, steal(parameters));
}

int varlink_service_no_interface(struct varlink_call *call, const char *method)
{
	_cleanup_(freep) char *interface = strndup(method, (size_t)(strrchr(method, '.') - method));

	if (!interface)
		return -ENOMEM;
	return varlink_service_refuse(call, "InterfaceNotFound", "interface", interface);
}

int varlink_service_no_method(struct varlink_call *call, const char *method)
{
	return varlink_service_refuse(call, "MethodNotFound", "method", method);
}

static int answer_info(const struct varlink_interface *interface, struct varlink_call *call)
{
	_cleanup_(json_putp) struct json_object *parameters = json_object_new_object();
	_cleanup_(json_putp) struct json_object *interfaces = json_object_new_array();
	const char *names[] = { SERVICE, interface->name };
	int r;

	if (!parameters || !interfaces)
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct json_object *text = json_object_new_string(names[i]);

		if (!text || json_object_array_add(interfaces, text) < 0) {
			json_object_put(text);
			return -ENOMEM;
		}
	}
	r = json_set_string(parameters, "vendor", interface->vendor);
	if (r == 0)
		r = json_set_string(parameters, "product", interface->product);
	if (r == 0)
		r = json_set_string(parameters, "version", interface->version);
	if (r == 0)
		r = json_set_string(parameters, "url", interface->url);
	if (r == 0)
		r = json_set(parameters, "interfaces", steal(interfaces));
	return r < 0 ? r : varlink_reply(call, steal(parameters));
}

static int answer_description(const struct varlink_interface *interface, struct varlink_call *call,
			      struct json_object *wanted)
{
	_cleanup_(json_putp) struct json_object *parameters = NULL;
	const char *name = json_get_string(wanted, "interface"), *text;
	int r;

	if (!name)
		return varlink_error_parameter(call, "interface");
	if (strcmp(name, SERVICE) == 0)
		text = description;
	else if (strcmp(name, interface->name) == 0)
		text = interface->description;
	else
		return varlink_service_refuse(call, "InterfaceNotFound", "interface", name);
	parameters = json_object_new_object();
	if (!parameters)
		return -ENOMEM;
	r = json_set_string(parameters, "description", text);
	return r < 0 ? r : varlink_reply(call, steal(parameters));
}

/**
 * varlink_service_answer() - answer a call of org.varlink.service
 *
 * Return: as varlink_reply(), or VARLINK_SERVICE_E_OTHER with nothing done.
 */
int varlink_service_answer(const struct varlink_service *service, struct varlink_call *call,
			   const struct varlink_request *request)
{
	const char *method = request->method;

	if (strncmp(method, SERVICE ".", strlen(SERVICE ".")) != 0)
		return VARLINK_SERVICE_E_OTHER;
	method += strlen(SERVICE ".");
	if (strcmp(method, "GetInfo") == 0)
		return answer_info(service->interface, call);
	if (strcmp(method, "GetInterfaceDescription") == 0)
		return answer_description(service->interface, call, request->parameters);
	return varlink_service_no_method(call, request->method);
}
