"""The messages of Gemini's API as tables: which fields a request may have, on which face of the service.

Three surfaces: "developer" (v1beta), "developer_v1" without the fields that are in preview, and "vertex". What is a
message of rarely used settings, speech say, is an object that nobody looks into.

Source: Google's API reference, and the request types and converters of its Python SDK.
"""

from __future__ import annotations

from .protojson import BOOL, BYTES, FLOAT, INT32, INT64, STRING, STRUCT, VALUE, Enum, Kind, Map, Message, Repeated

PACKAGE = "google.ai.generativelanguage.v1beta"
DATA_FIELDS = (
    "text",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
    "toolCall",
    "toolResponse",
    "audioTranscription",
)
"""Of these a part has exactly one."""

MODES = ("MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED")
LEVELS = ("THINKING_LEVEL_UNSPECIFIED", "MINIMAL", "LOW", "MEDIUM", "HIGH", "XHIGH")
MEDIA_RESOLUTIONS = tuple(f"MEDIA_RESOLUTION_{name}" for name in ("UNSPECIFIED", "LOW", "MEDIUM", "HIGH"))
CATEGORIES = tuple(
    f"HARM_CATEGORY_{name}"
    for name in (
        *("UNSPECIFIED", "HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT", "CIVIC_INTEGRITY"),
        *("JAILBREAK", "IMAGE_HATE", "IMAGE_DANGEROUS_CONTENT", "IMAGE_HARASSMENT", "IMAGE_SEXUALLY_EXPLICIT"),
    )
)
THRESHOLDS = (
    *("HARM_BLOCK_THRESHOLD_UNSPECIFIED", "OFF", "BLOCK_NONE"),
    *("BLOCK_ONLY_HIGH", "BLOCK_MEDIUM_AND_ABOVE", "BLOCK_LOW_AND_ABOVE"),
)
TYPES = ("TYPE_UNSPECIFIED", "STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL")


def _message(name: str) -> Message:
    return Message(f"{PACKAGE}.{name}")


def _enum(name: str, *values: str) -> Enum:
    return Enum(f"{PACKAGE}.{name}", values)


# ---------------------------------------------------------------------------------------------------- contents

_MEDIA = {"mimeType": STRING, "displayName": STRING}
_BLOB = _message("Blob").define({**_MEDIA, "data": BYTES})
_FILE_DATA = _message("FileData").define({**_MEDIA, "fileUri": STRING})
_PARTIAL_ARG = dict.fromkeys(("jsonPath", "nullValue", "stringValue"), STRING)
_FUNCTION_CALL = _message("FunctionCall").define(
    {"id": STRING, "name": STRING, "args": STRUCT},
    vertex={
        "partialArgs": Repeated(
            _message("PartialArg").define(
                {**_PARTIAL_ARG, "boolValue": BOOL, "numberValue": FLOAT, "willContinue": BOOL}
            )
        ),
        "willContinue": BOOL,
    },
)
_PART_RESOLUTION = _message("MediaResolution").define(
    {
        "level": _enum("MediaResolution.Level", *MEDIA_RESOLUTIONS, "MEDIA_RESOLUTION_ULTRA_HIGH"),
        "numTokens": INT32,
    }
)
_VIDEO = _message("VideoMetadata").define(
    {"startOffset": STRING, "endOffset": STRING, "fps": FLOAT, "contentLayers": Repeated(STRUCT)}
)
_METADATA = dict.fromkeys(("documentMetadata", "spreadsheetMetadata", "audioMetadata"), STRUCT)
_MEDIA_METADATA: dict[str, Kind] = {"mediaResolution": _PART_RESOLUTION, "mediaProcessing": STRUCT}
_FUNCTION_RESPONSE = _message("FunctionResponse").define(
    {
        "id": STRING,
        "name": STRING,
        "response": STRUCT,
        "parts": Repeated(
            Message(f"{PACKAGE}.FunctionResponsePart", oneof=("inlineData", "fileData")).define(
                {"inlineData": _BLOB, "fileData": _FILE_DATA, "videoMetadata": _VIDEO, **_METADATA, **_MEDIA_METADATA}
            )
        ),
        "willContinue": BOOL,
        "scheduling": _enum(
            "FunctionResponse.Scheduling", "SCHEDULING_UNSPECIFIED", "SILENT", "WHEN_IDLE", "INTERRUPT"
        ),
    }
)
_CODE = _message("ExecutableCode").define(
    {"id": STRING, "code": STRING, "language": _enum("ExecutableCode.Language", "LANGUAGE_UNSPECIFIED", "PYTHON")}
)
_OUTCOMES = ("OUTCOME_UNSPECIFIED", "OUTCOME_OK", "OUTCOME_FAILED", "OUTCOME_DEADLINE_EXCEEDED")
_CODE_RESULT = _message("CodeExecutionResult").define(
    {"id": STRING, "output": STRING, "outcome": _enum("CodeExecutionResult.Outcome", *_OUTCOMES)}
)
_PART_FIELDS: dict[str, Kind] = {
    "text": STRING,
    "inlineData": _BLOB,
    "fileData": _FILE_DATA,
    "functionCall": _FUNCTION_CALL,
    "functionResponse": _FUNCTION_RESPONSE,
    "executableCode": _CODE,
    "codeExecutionResult": _CODE_RESULT,
    "toolCall": STRUCT,
    "toolResponse": STRUCT,
    "audioTranscription": STRUCT,
    "thought": BOOL,
    "thoughtSignature": BYTES,
    "videoMetadata": _VIDEO,
    "partMetadata": STRUCT,
    "speechMetadata": STRUCT,
    **_METADATA,
}
_PART = Message(f"{PACKAGE}.Part", oneof=DATA_FIELDS).define(
    _PART_FIELDS,
    # In preview: the stable version of the developer API does not know it.
    developer=_MEDIA_METADATA,
    vertex=_MEDIA_METADATA,
)
CONTENT = _message("Content").define({"role": STRING, "parts": Repeated(_PART)})


# ---------------------------------------------------------------------------------------------------- settings

_SCHEMA = _message("Schema")
_SCHEMA.define(
    {
        "type": _enum("Type", *TYPES),
        "format": STRING,
        "title": STRING,
        "description": STRING,
        "nullable": BOOL,
        "enum": Repeated(STRING),
        "items": _SCHEMA,
        "properties": Map(_SCHEMA),
        "required": Repeated(STRING),
        "propertyOrdering": Repeated(STRING),
        "anyOf": Repeated(_SCHEMA),
        "minimum": FLOAT,
        "maximum": FLOAT,
        "pattern": STRING,
        "default": VALUE,
        "example": VALUE,
        **{f"{bound}{what}": INT64 for bound in ("min", "max") for what in ("Items", "Length", "Properties")},
    }
)
_THINKING = _message("ThinkingConfig").define(
    {
        "includeThoughts": BOOL,
        "thinkingBudget": INT32,
        "thinkingLevel": _enum("ThinkingConfig.ThinkingLevel", *LEVELS),
    }
)
_GENERATION_FIELDS: dict[str, Kind] = {
    "temperature": FLOAT,
    "topP": FLOAT,
    "topK": INT32,
    "candidateCount": INT32,
    "maxOutputTokens": INT32,
    "stopSequences": Repeated(STRING),
    "seed": INT32,
    "presencePenalty": FLOAT,
    "frequencyPenalty": FLOAT,
    "responseLogprobs": BOOL,
    "logprobs": INT32,
    "responseMimeType": STRING,
    "responseSchema": _SCHEMA,
    "responseJsonSchema": VALUE,
    "responseModalities": Repeated(
        _enum("GenerationConfig.Modality", "MODALITY_UNSPECIFIED", "TEXT", "IMAGE", "AUDIO", "VIDEO")
    ),
    "mediaResolution": _enum("GenerationConfig.MediaResolution", *MEDIA_RESOLUTIONS),
    "thinkingConfig": _THINKING,
    "speechConfig": STRUCT,
    "imageConfig": STRUCT,
    "audioTranscriptionConfig": STRUCT,
    "responseFormat": Repeated(STRUCT),
}
_VERTEX_ALONE: dict[str, Kind] = {
    "topK": FLOAT,
    "audioTimestamp": BOOL,
    "routingConfig": STRUCT,
    "modelConfig": STRUCT,
    "enableAffectiveDialog": BOOL,
    "translationConfig": STRUCT,
}
_GENERATION = _message("GenerationConfig").define(
    {**_GENERATION_FIELDS, "enableEnhancedCivicAnswers": BOOL}, vertex=_VERTEX_ALONE
)
_SAFETY = _message("SafetySetting").define(
    {
        "category": _enum("HarmCategory", *CATEGORIES),
        "threshold": _enum("SafetySetting.HarmBlockThreshold", *THRESHOLDS),
    },
    vertex={
        "method": _enum("SafetySetting.HarmBlockMethod", "HARM_BLOCK_METHOD_UNSPECIFIED", "SEVERITY", "PROBABILITY")
    },
)
_FUNCTION = _message("FunctionDeclaration").define(
    {
        "name": STRING,
        "description": STRING,
        "parameters": _SCHEMA,
        "parametersJsonSchema": VALUE,
        "response": _SCHEMA,
        "responseJsonSchema": VALUE,
        "behavior": _enum("FunctionDeclaration.Behavior", "UNSPECIFIED", "BLOCKING", "NON_BLOCKING"),
    }
)
BUILT_IN_TOOLS = (
    *("googleSearch", "googleSearchRetrieval", "codeExecution", "urlContext", "googleMaps", "computerUse"),
    *("fileSearch", "retrieval", "enterpriseWebSearch", "parallelAiSearch", "exaAiSearch"),
)
_EVERYWHERE = BUILT_IN_TOOLS[:6]
_TOOL = _message("Tool").define(
    {"functionDeclarations": Repeated(_FUNCTION), "mcpServers": Repeated(STRUCT), **dict.fromkeys(_EVERYWHERE, STRUCT)},
    developer={"fileSearch": STRUCT},
    developer_v1={"fileSearch": STRUCT},
    vertex=dict.fromkeys(BUILT_IN_TOOLS[7:], STRUCT),
)
_CALLING_FIELDS: dict[str, Kind] = {
    "mode": _enum("FunctionCallingConfig.Mode", *MODES),
    "allowedFunctionNames": Repeated(STRING),
}
_CALLING = _message("FunctionCallingConfig").define(_CALLING_FIELDS, vertex={"streamFunctionCallArguments": BOOL})
_TOOL_CONFIG = _message("ToolConfig").define(
    {"functionCallingConfig": _CALLING, "retrievalConfig": STRUCT},
    developer={"includeServerSideToolInvocations": BOOL},
    developer_v1={"includeServerSideToolInvocations": BOOL},
)


# ---------------------------------------------------------------------------------------------------- requests

_REQUEST_FIELDS: dict[str, Kind] = {
    "model": STRING,
    "contents": Repeated(CONTENT),
    "systemInstruction": CONTENT,
    "generationConfig": _GENERATION,
    "safetySettings": Repeated(_SAFETY),
    "tools": Repeated(_TOOL),
    "toolConfig": _TOOL_CONFIG,
    "cachedContent": STRING,
    "serviceTier": _enum("ServiceTier", "unspecified", "flex", "standard", "priority"),
    "labels": Map(STRING),
    "continuationToken": BYTES,
}
GENERATE = _message("GenerateContentRequest").define(
    _REQUEST_FIELDS,
    developer={"store": BOOL},
    developer_v1={"store": BOOL},
    vertex={"modelArmorConfig": STRUCT, "outputConfig": STRUCT},
)
COUNT_TOKENS = _message("CountTokensRequest").define(
    {"model": STRING, "contents": Repeated(CONTENT)},
    developer={"contents": Repeated(CONTENT), "generateContentRequest": GENERATE},
    developer_v1={"contents": Repeated(CONTENT), "generateContentRequest": GENERATE},
    vertex={name: _REQUEST_FIELDS[name] for name in ("systemInstruction", "tools", "generationConfig")},
)
