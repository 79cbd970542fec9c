// Score events with a model that `manyscale export` has written, by the C++ API of onnxruntime.
//
//     g++ -std=c++17 score_onnx.cpp -I$ORT/include -L$ORT/lib -Wl,-rpath,$ORT/lib -lonnxruntime -o score_onnx
//     ./score_onnx model.onnx < events.txt
//
// ORT: where an archive of github.com/microsoft/onnxruntime/releases was unpacked, 1.13 or later.
// Of each event events.txt has, for each input of the model in its order, the number of tokens and then
// their columns. In an event loop of your own, fill `values` instead: one event at a time is fine, and any
// number of events at once is, padded with zeros to the longest.
#include <onnxruntime_cxx_api.h>

#include <cstdint>
#include <iostream>
#include <string>
#include <vector>

int main(int argc, char **argv) {
   if (argc != 2) {
      std::cerr << "usage: score_onnx MODEL < EVENTS\n";
      return 2;
   }
   Ort::Env env(ORT_LOGGING_LEVEL_ERROR, "score");
   Ort::SessionOptions options;
   options.SetIntraOpNumThreads(1);
   Ort::Session session(env, argv[1], options);

   // The inputs are named as the streams; their columns, with units, stand in the metadata.
   Ort::AllocatorWithDefaultOptions allocator;
   auto metadata = session.GetModelMetadata();
   std::cerr << metadata.LookupCustomMetadataMapAllocated("streams", allocator).get() << "\n";
   std::vector<std::string> streams;
   std::vector<std::int64_t> columns;
   for (std::size_t i = 0; i < session.GetInputCount(); ++i) {
      streams.emplace_back(session.GetInputNameAllocated(i, allocator).get());
      auto type = session.GetInputTypeInfo(i);
      columns.push_back(type.GetTensorTypeAndShapeInfo().GetShape()[2]);
   }
   std::vector<const char *> names;
   for (const auto &stream : streams)
      names.push_back(stream.c_str());
   const char *output = "probabilities";

   auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
   while (true) {
      std::vector<std::vector<float>> values(streams.size());
      std::vector<Ort::Value> inputs;
      for (std::size_t i = 0; i < streams.size(); ++i) {
         std::int64_t tokens = 0;
         if (!(std::cin >> tokens))
            return 0;
         values[i].resize(tokens * columns[i]);
         for (auto &value : values[i])
            std::cin >> value;
         const std::vector<std::int64_t> shape{1, tokens, columns[i]};
         inputs.push_back(Ort::Value::CreateTensor<float>(
            memory, values[i].data(), values[i].size(), shape.data(), shape.size()));
      }
      auto found = session.Run(Ort::RunOptions{nullptr}, names.data(), inputs.data(), inputs.size(), &output, 1);
      std::cout << found[0].GetTensorData<float>()[1] << "\n"; // background, signal
   }
}
